//! Client: whose files the local sources are, and under which name the daemon keeps them for the next build.
//!
//! All are of the build's own session, unless an option names another one for a folder: `local-sessionid:<folder>`. Folders are known again by their
//! names, or by what `sharedkey:localdir:<folder>` says.

use std::collections::BTreeMap;

use crate::{FrontendRequest, dockerfile::options::Options};

/// Whose files the local sources are.
#[derive(Clone, Debug, Default)]
pub struct Client {
    session: String,
    sessions: BTreeMap<String, String>,
    keys: BTreeMap<String, String>,
}

impl Client {
    /// That of a request.
    pub(super) fn of(request: &FrontendRequest, options: &Options) -> Self {
        Self {
            session: request.session_id.clone(),
            sessions: options.local_sessions.clone(),
            keys: options.shared_keys.clone(),
        }
    }

    /// The session of the build.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The attributes of a folder as a source; `part` is what of it is known again apart from the rest.
    pub(super) fn attrs(&self, folder: &str, part: &str, follow: &[String]) -> BTreeMap<String, String> {
        let key = self.keys.get(folder).map_or(folder, String::as_str);
        let mut attrs = BTreeMap::from([("local.sharedkeyhint".to_owned(), format!("{key}{part}"))]);
        let session = self.sessions.get(folder).unwrap_or(&self.session);
        if !session.is_empty() {
            attrs.insert("local.session".to_owned(), session.clone());
        }
        if !follow.is_empty() {
            attrs.insert("local.followpaths".to_owned(), super::json(follow));
        }
        attrs
    }
}
