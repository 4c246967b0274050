//! One `Content.Write` call: the first message opens an ingest, the others write to it, ask for its state, or commit it.
//!
//! A call that ends without a commit leaves the partial blob for a later call to resume.

use buildd_api::containerd::containerd::services::content::v1::{
    WriteAction, WriteContentRequest, WriteContentResponse,
};
use buildd_oci::digest::Digest;
use buildd_store::{Error, content::Writer, meta::lease::Resource};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::super::{Services, convert};

type Answers = mpsc::Sender<Result<WriteContentResponse, Status>>;

/// The state of one call.
#[derive(Debug)]
pub(super) struct Ingest {
    services: Services,
    ns: String,
    lease: Option<String>,
    total: u64,
    expected: Option<Digest>,
}

impl Ingest {
    /// A call in a namespace, perhaps under a lease.
    pub(super) fn new(services: Services, ns: String, lease: Option<String>) -> Self {
        Self { services, ns, lease, total: 0, expected: None }
    }

    /// Answers every message until the client or an error ends it.
    pub(super) async fn run(mut self, mut requests: Streaming<WriteContentRequest>, answers: Answers) {
        let mut writer = None;
        loop {
            let request = match requests.message().await {
                Ok(Some(request)) => request,
                Ok(None) | Err(_) => return,
            };
            let answer = self.answer(&mut writer, request).await;
            let failed = answer.is_err();
            if answers.send(answer).await.is_err() || failed {
                return;
            }
        }
    }

    async fn answer(
        &mut self,
        writer: &mut Option<Writer>,
        request: WriteContentRequest,
    ) -> Result<WriteContentResponse, Status> {
        let total = convert::unsigned(request.total)?;
        if total != 0 {
            self.total = total;
        }
        if !request.expected.is_empty() {
            self.expected = Some(convert::digest(&request.expected)?);
        }
        let mut open = match writer.take() {
            Some(open) => open,
            None => self.open(&request.r#ref).await?,
        };
        let action = WriteAction::try_from(request.action)
            .map_err(|_| Status::invalid_argument("an unknown write action"))?;
        if action == WriteAction::Stat {
            let answer = self.state(action, &open);
            *writer = Some(open);
            return Ok(answer);
        }
        let offset = convert::unsigned(request.offset)?;
        let open = self
            .services
            .with_store(move |_| {
                if !request.data.is_empty() {
                    open.seek(offset)?;
                    open.write(&request.data)?;
                }
                Ok(open)
            })
            .await?;
        let mut answer = self.state(action, &open);
        if action == WriteAction::Commit {
            answer.digest = self.commit(open, convert::labels(request.labels)?).await?.to_string();
        } else {
            *writer = Some(open);
        }
        Ok(answer)
    }

    async fn open(&self, name: &str) -> Result<Writer, Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument("the first message of a write needs a ref"));
        }
        let (ns, name, total, expected) = (self.ns.clone(), name.to_owned(), self.total, self.expected);
        let lease = self.lease.clone();
        self.services
            .with_store(move |store| {
                let Some(lease) = lease else { return store.content.writer(&ns, &name, total, expected) };
                store.leases.add(&ns, &lease, &Resource { kind: "ingests".to_owned(), id: name.clone() })?;
                let opened = store.content.writer(&ns, &name, total, expected);
                // What is there already belongs to the lease too, if it is still there then.
                if let (Err(Error::AlreadyExists { .. }), Some(digest)) = (&opened, expected) {
                    store.leases.commit(&ns, &lease, &name, &digest)?;
                    return match store.content.info(&ns, &digest) {
                        Ok(_) => opened,
                        Err(_) => store.content.writer(&ns, &name, total, expected),
                    };
                }
                opened
            })
            .await
    }

    async fn commit(
        &self,
        writer: Writer,
        labels: std::collections::BTreeMap<String, String>,
    ) -> Result<Digest, Status> {
        let (ns, lease) = (self.ns.clone(), self.lease.clone());
        let (total, expected) = (self.total, self.expected);
        self.services
            .with_store(move |store| {
                if let Some(lease) = lease {
                    store.leases.commit(&ns, &lease, writer.name(), &writer.digest())?;
                }
                writer.commit(total, expected, &labels)
            })
            .await
    }

    fn state(&self, action: WriteAction, writer: &Writer) -> WriteContentResponse {
        WriteContentResponse {
            action: action.into(),
            offset: convert::signed(writer.offset()),
            total: convert::signed(self.total),
            digest: writer.digest().to_string(),
            started_at: convert::timestamp(std::time::SystemTime::now()),
            updated_at: convert::timestamp(std::time::SystemTime::now()),
        }
    }
}
