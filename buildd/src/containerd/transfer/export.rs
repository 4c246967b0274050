//! Export: named images of the store as one archive, straight into the client's stream.

use std::io::{BufWriter, Write};

use buildd_api::containerd::containerd::types::transfer::{ImageExportStream, ImageStore};
use buildd_fs::pipeline::Limit;
use buildd_oci::archive::{self, Absent, ExportImage, Kind, Platforms};
use buildd_store::Error;
use tonic::Status;

use super::{super::Services, Report, platform};

/// Bytes collected before they are sent.
const BUFFER: usize = 32 * 1024;
/// Archives that go to clients at once: stops clients that read slowly from taking all threads the daemon may have.
static EXPORTS: Limit = Limit::new("ctr-export", 128);
/// The event of a platform that the archive does not have.
const LEFT_OUT: &str = "left out";

impl Services {
    /// Exports what `store` names.
    pub(super) async fn export(
        &self,
        ns: String,
        store: ImageStore,
        stream: ImageExportStream,
        report: &Report,
    ) -> Result<(), Status> {
        let mut names: Vec<String> =
            store.extra_references.into_iter().filter(|name| !name.is_prefix).map(|name| name.name).collect();
        if !store.name.is_empty() {
            names.push(store.name);
        }
        if names.is_empty() {
            return Err(Status::invalid_argument("an export needs the name of an image"));
        }
        let platforms = match (stream.all_platforms, stream.platforms.is_empty()) {
            (true, _) => Platforms::All,
            (false, true) => Platforms::Present,
            (false, false) => Platforms::Only(stream.platforms.iter().map(platform).collect()),
        };
        let kind = if stream.skip_compatibility_manifest { Kind::Oci } else { Kind::Both };
        let to = self.streams.take(&ns, &stream.stream).await?.into_writer();
        report.event("exporting", &names.join(", "));
        let listed = names.clone();
        let absent = self.pipeline(&EXPORTS, move |store| {
            let images = listed
                .into_iter()
                .map(|name| {
                    let target = store.images.get(&ns, &name)?.target;
                    Ok(ExportImage { names: vec![name], target })
                })
                .collect::<Result<Vec<_>, Error>>()?;
            let mut writer = BufWriter::with_capacity(BUFFER, to);
            let content = store.content.in_namespace(&ns);
            let absent = archive::export(&content, &images, &platforms, kind, &mut writer)?;
            writer.flush().map_err(Error::file("send", "the archive"))?;
            Ok(absent)
        });
        for Absent { image, platform, blob } in absent.await? {
            report.event(LEFT_OUT, &format!("{image} {platform}: blob {blob} is not here"));
        }
        for name in names {
            report.event("exported", &name);
        }
        Ok(())
    }
}
