//! Login: whether a credential is right, and tokens asked on behalf of a daemon that shall not see the credential.
//!
//! `buildctl login` proves a name and password here before it keeps them; a client's session asks for the tokens of a build.
//!
//! # Invariants
//! Only the registry itself is spoken to, never a mirror in its place.

use std::{sync::Arc, time::Duration};

use reqwest::Method;

use super::{
    Registry,
    auth::{Anonymous, Authorizer, Credential, Token, TokenRequest, ask_token},
    error::Error,
    host::Host,
    transport::{Call, Patience, Payload, Peer, Reach},
};

/// Somebody sits before the screen: one failure that passes is waited for, and not for long.
const PATIENCE: Patience = Patience { attempts: 2, total: Duration::from_secs(20) };

impl Registry {
    /// Asks whether the host speaks to us, with the credentials that `authorizer` knows.
    pub async fn ping(&self, host: &Host, authorizer: &Authorizer) -> Result<(), Error> {
        let peer = self.peer(host, authorizer);
        let mut url = peer.home()?;
        url.set_path(&format!("{}/", host.path));
        let call = Call {
            method: Method::GET,
            url,
            headers: Vec::new(),
            payload: Payload::None,
            scopes: Vec::new(),
            patience: PATIENCE,
        };
        peer.send(&call).await?.accept(&[200]).await.map(drop)
    }

    /// Asks the token server that `host` named for a token.
    pub async fn token(
        &self,
        host: &Host,
        credential: &Credential,
        request: TokenRequest,
    ) -> Result<Token, Error> {
        let authorizer = Authorizer::new(Arc::new(Anonymous));
        let client = self.peer(host, &authorizer).client().await?;
        ask_token(client, host, credential, request).await
    }

    fn peer<'a>(&'a self, host: &'a Host, authorizer: &'a Authorizer) -> Peer<'a> {
        Peer { transport: &self.transport, host, authorizer, floor: Reach::Named }
    }
}
