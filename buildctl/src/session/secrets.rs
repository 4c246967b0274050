//! Secrets: the files and variables of `--secret`, read when the daemon asks and never kept.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Result, bail};
use buildd_api::buildkit::moby::buildkit::secrets::v1::{
    GetSecretRequest, GetSecretResponse, secrets_server::Secrets,
};
use tonic::{Request, Response, Status};

/// Largest secret, as BuildKit's clients bound it.
const SECRET_BYTES: u64 = 500 * 1024;

/// Where a secret's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// In a file.
    File(PathBuf),
    /// In a variable of our environment.
    Variable(String),
}

impl Secret {
    /// Parses `id=ID[,src=FILE|,env=NAME][,type=file|env]`; without a source, the variable named ID if there is one, else the file.
    pub(crate) fn parse(text: &str) -> Result<(String, Self)> {
        let (mut id, mut file, mut variable) = (None, None, None);
        for field in text.split(',') {
            let Some((key, value)) = field.split_once('=') else {
                bail!("--secret {text:?}: {field:?} is not key=value");
            };
            match key {
                "id" => id = Some(value.to_owned()),
                "src" | "source" => file = Some(value.to_owned()),
                "env" => variable = Some(value.to_owned()),
                "type" if matches!(value, "file" | "env") => {
                    if value == "env" && variable.is_none() {
                        variable = file.take();
                    }
                }
                _ => bail!("--secret {text:?}: {field:?} is unknown; id, src, env and type are known"),
            }
        }
        let Some(id) = id.filter(|id| !id.is_empty()) else { bail!("--secret {text:?} has no id") };
        let secret = match (file, variable) {
            (Some(_), Some(_)) => bail!("--secret {text:?}: src and env exclude each other"),
            (Some(file), None) => Self::File(file.into()),
            (None, Some(variable)) => Self::Variable(variable),
            (None, None) if std::env::var_os(&id).is_some() => Self::Variable(id.clone()),
            (None, None) => Self::File(id.clone().into()),
        };
        if let Self::File(path) = &secret
            && let Err(e) = std::fs::metadata(path)
        {
            bail!("--secret {text:?}: {}: {e}", path.display());
        }
        Ok((id, secret))
    }

    fn read(&self, id: &str) -> Result<Vec<u8>, Status> {
        use std::io::Read as _;
        let bytes = match self {
            Self::File(path) => {
                let failed = |e| Status::internal(format!("read secret {id} from {}: {e}", path.display()));
                let mut bytes = Vec::new();
                let file = std::fs::File::open(path).map_err(failed)?;
                file.take(SECRET_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
                bytes
            }
            Self::Variable(name) => {
                use std::os::unix::ffi::OsStringExt as _;
                let value = std::env::var_os(name)
                    .ok_or_else(|| Status::not_found(format!("secret {id}: no variable {name}")))?;
                value.into_vec()
            }
        };
        if bytes.len() as u64 > SECRET_BYTES {
            return Err(Status::invalid_argument(format!("secret {id} is larger than {SECRET_BYTES} bytes")));
        }
        Ok(bytes)
    }
}

/// Answers the daemon.
#[derive(Debug)]
pub(super) struct SecretsService {
    secrets: BTreeMap<String, Secret>,
}

impl SecretsService {
    pub(super) fn new(secrets: BTreeMap<String, Secret>) -> Self {
        Self { secrets }
    }
}

#[tonic::async_trait]
impl Secrets for SecretsService {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let Some(secret) = self.secrets.get(&id).cloned() else {
            return Err(Status::not_found(format!(
                "secret {id} was not given: add --secret id={id},src=FILE"
            )));
        };
        let data = buildd_fs::blocking::run(move || secret.read(&id)).await?;
        Ok(Response::new(GetSecretResponse { data }))
    }
}
