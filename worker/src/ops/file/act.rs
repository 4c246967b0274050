//! Act: one change of a file op, on the draft of a layer.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use buildd_api::buildkit::pb;
use buildd_fs::path::{Follow, resolve};
use buildd_runtime::passwd;
use buildd_store::{
    layer::{Entry, EntryKind, LayerWriter as _, Time},
    snapshot::{Draft, Present, Reading},
};
use pb::{file_action::Action, user_opt::User};

use super::copy;
use crate::{
    checksum::{Selection, find},
    error::{Error, Result},
    listing::Listing,
};

/// Gives the tree in which names of users are looked up.
pub(super) type Users<'a> = dyn Fn(i64) -> Result<Option<Reading>> + 'a;

/// Who owns what is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The inputs whose users an action names.
pub(super) fn owner_inputs(action: &pb::FileAction) -> Vec<i64> {
    let owner = match &action.action {
        Some(Action::Copy(a)) => &a.owner,
        Some(Action::Mkdir(a)) => &a.owner,
        Some(Action::Mkfile(a)) => &a.owner,
        Some(Action::Symlink(a)) => &a.owner,
        _ => return Vec::new(),
    };
    let Some(owner) = owner else { return Vec::new() };
    [&owner.user, &owner.group]
        .into_iter()
        .flatten()
        .filter_map(|opt| match &opt.user {
            Some(User::ByName(name)) => Some(name.input),
            _ => None,
        })
        .collect()
}

/// Makes the change in `draft`; `source` is what a copy reads.
pub(super) fn apply(
    action: &pb::FileAction,
    draft: &mut Draft,
    source: Option<&Listing>,
    users: &Users<'_>,
) -> Result<()> {
    match &action.action {
        Some(Action::Copy(a)) => {
            let source = source.ok_or_else(|| Error::Invalid {
                what: "copy",
                name: a.src.clone(),
                reason: "it has no source tree".to_owned(),
            })?;
            copy::copy(a, source, draft, owner(a.owner.as_ref(), users)?)
        }
        Some(Action::Mkdir(a)) => make_folder(a, draft, owner(a.owner.as_ref(), users)?),
        Some(Action::Mkfile(a)) => {
            let kind = EntryKind::File { size: a.data.len() as u64 };
            let made = NewEntry { kind, mode: permissions(a.mode), timestamp: a.timestamp };
            make(draft, &a.path, made, owner(a.owner.as_ref(), users)?, &mut a.data.as_slice())
        }
        Some(Action::Symlink(a)) => {
            let made = NewEntry {
                kind: EntryKind::Symlink(PathBuf::from(&a.oldpath)),
                mode: 0o777,
                timestamp: a.timestamp,
            };
            make(draft, &a.newpath, made, owner(a.owner.as_ref(), users)?, &mut io::empty())
        }
        Some(Action::Rm(a)) => remove(a, &draft.path()),
        None => Ok(()),
    }
}

/// Who a file belongs to; a group that is not given is that of a named user, or the number of the user.
fn owner(opt: Option<&pb::ChownOpt>, users: &Users<'_>) -> Result<Option<Owner>> {
    let Some(opt) = opt else { return Ok(None) };
    let base = |named: &pb::NamedUserOpt| {
        users(named.input)?.ok_or_else(|| Error::Invalid {
            what: "owner",
            name: named.name.clone(),
            reason: "names of users need a base image: give a number".to_owned(),
        })
    };
    let user = |of: &Option<pb::UserOpt>| of.as_ref().and_then(|of| of.user.clone());
    let (uid, own) = match user(&opt.user) {
        None => (0, 0),
        Some(User::ById(id)) => (passwd::checked("user", id)?, id),
        Some(User::ByName(named)) => passwd::user_ids(&base(&named)?.path(), &named.name)?,
    };
    let gid = match user(&opt.group) {
        None => own,
        Some(User::ById(id)) => passwd::checked("group", id)?,
        Some(User::ByName(named)) => passwd::group_id(&base(&named)?.path(), &named.name)?,
    };
    Ok(Some(Owner { uid, gid }))
}

fn permissions(mode: i32) -> u32 {
    u32::try_from(mode).map_or(0o644, |mode| mode & 0o7777)
}

/// The time of something made: given in nanoseconds, or now.
fn time(timestamp: i64) -> Time {
    if timestamp >= 0 {
        let nanos = u32::try_from(timestamp % 1_000_000_000).unwrap_or_default();
        return Time { seconds: timestamp / 1_000_000_000, nanos };
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time { seconds: i64::try_from(now.as_secs()).unwrap_or_default(), nanos: now.subsec_nanos() }
}

/// What is to be made.
struct NewEntry {
    kind: EntryKind,
    mode: u32,
    timestamp: i64,
}

fn make(
    draft: &mut Draft,
    path: &str,
    made: NewEntry,
    owner: Option<Owner>,
    data: &mut dyn io::Read,
) -> Result<()> {
    let path =
        resolve(&draft.path(), Path::new(path), Follow::Parents).map_err(Error::file("resolve", path))?;
    let entry = Entry {
        path,
        kind: made.kind,
        mode: made.mode,
        uid: owner.map_or(0, |o| o.uid),
        gid: owner.map_or(0, |o| o.gid),
        mtime: time(made.timestamp),
        xattrs: BTreeMap::new(),
    };
    draft.entry(&entry, data)?;
    Ok(draft.finish()?)
}

fn make_folder(action: &pb::FileActionMkDir, draft: &mut Draft, owner: Option<Owner>) -> Result<()> {
    let path = resolve(&draft.path(), Path::new(&action.path), Follow::All)
        .map_err(Error::file("resolve", &action.path))?;
    match draft.present(&path) {
        Present::Folder if action.make_parents => return Ok(()),
        Present::Nothing => {}
        _ => return Err(Error::AlreadyExists { what: "path", name: format!("/{}", path.display()) }),
    }
    if action.make_parents {
        copy::make_parents(draft, &path, owner, time(action.timestamp))?;
    }
    let made =
        NewEntry { kind: EntryKind::Directory, mode: permissions(action.mode), timestamp: action.timestamp };
    make(draft, &path.to_string_lossy(), made, owner, &mut io::empty())
}

fn remove(action: &pb::FileActionRm, root: &Path) -> Result<()> {
    let selection =
        Selection { path: action.path.clone(), wildcard: action.allow_wildcard, ..Selection::default() };
    let found = find(root, &selection)?;
    if found.is_empty() && !action.allow_not_found && !action.allow_wildcard {
        return Err(Error::NotFound { what: "path", name: action.path.clone() });
    }
    for path in found {
        let full = root.join(&path);
        let removed = match full.symlink_metadata() {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&full),
            Ok(_) => fs::remove_file(&full),
            Err(error) => Err(error),
        };
        removed.map_err(Error::file("remove", &full))?;
    }
    Ok(())
}
