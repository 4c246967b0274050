//! Collections under fire: fifty clients at once, each of which looks whether what it leased or named is there.

use std::process::{Command, Stdio};

use buildd_api::containerd::{
    containerd::services::{
        content::v1::{
            InfoRequest, ReadContentRequest, WriteAction, WriteContentRequest, content_client::ContentClient,
        },
        images::v1::{
            CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, images_client::ImagesClient,
        },
        leases::v1::{CreateRequest, DeleteRequest, leases_client::LeasesClient},
    },
    containerd::types::Descriptor,
};
use buildd_oci::digest::Digest;
use buildd_tests::{
    daemon::{Daemon, Ran},
    fixture::{context, import_base, text},
};
use rustix::process::Signal;
use tonic::{Request, transport::Channel};

use crate::gateway::connect;

/// Clients of each sort, fifty together, and how often each does its work.
const WRITERS: usize = 24;
const IMPORTS: usize = 10;
const BUILDS: usize = 10;
const PRUNES: usize = 6;
const TIMES: usize = 5;

fn request<T>(message: T, lease: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", "default".parse().expect("a word"));
    if let Some(lease) = lease {
        request.metadata_mut().insert("containerd-lease", lease.parse().expect("a word"));
    }
    request
}

/// Writes a blob under a lease; whether it was there already.
async fn write(channel: &Channel, lease: &str, data: &[u8]) -> bool {
    let digest = Digest::of(data).to_string();
    let message = WriteContentRequest {
        action: WriteAction::Commit.into(),
        r#ref: format!("{lease} {digest}"),
        total: i64::try_from(data.len()).expect("short"),
        expected: digest,
        data: data.to_vec(),
        ..WriteContentRequest::default()
    };
    let sent = request(futures::stream::iter([message]), Some(lease));
    let answer = match ContentClient::new(channel.clone()).write(sent).await {
        Ok(answers) => answers.into_inner().message().await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(_) => false,
        Err(error) if error.code() == tonic::Code::AlreadyExists => true,
        Err(error) => panic!("{lease}: {error:?}"),
    }
}

/// A lease, two blobs under it, of which one is everybody's, a name for one; then only the name keeps it, then nothing does.
async fn client(channel: Channel, number: usize) {
    let mut content = ContentClient::new(channel.clone());
    let mut images = ImagesClient::new(channel.clone());
    let mut leases = LeasesClient::new(channel.clone());
    for time in 0..TIMES {
        let lease = format!("lease-{number}-{time}");
        let made = CreateRequest { id: lease.clone(), ..CreateRequest::default() };
        leases.create(request(made, None)).await.expect("a lease");
        let own = format!("{number} {time} ").repeat(1000);
        for data in [own.as_bytes(), b"everybody's"] {
            let found = write(&channel, &lease, data).await;
            let digest = Digest::of(data).to_string();
            let asked = content.info(request(InfoRequest { digest }, None)).await;
            assert!(asked.is_ok(), "{lease} holds it, found {found}: {asked:?}");
        }
        let name = format!("image-{number}");
        let target = Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            digest: Digest::of(own.as_bytes()).to_string(),
            size: i64::try_from(own.len()).expect("short"),
            ..Descriptor::default()
        };
        let image = Image { name: name.clone(), target: Some(target.clone()), ..Image::default() };
        let named = CreateImageRequest { image: Some(image), ..CreateImageRequest::default() };
        images.create(request(named, None)).await.expect("an image");
        leases
            .delete(request(DeleteRequest { id: lease, sync: time % 2 == 0 }, None))
            .await
            .expect("it ends");
        images.get(request(GetImageRequest { name: name.clone() }, None)).await.expect("it has a name");
        let read = ReadContentRequest { digest: target.digest, ..ReadContentRequest::default() };
        let mut answers = content.read(request(read, None)).await.expect("it is named").into_inner();
        let mut data = Vec::new();
        while let Some(answer) = answers.message().await.expect("all of it") {
            data.extend(answer.data);
        }
        assert!(data == own.as_bytes(), "image-{number} names {} bytes of {}", data.len(), own.len());
        let gone = DeleteImageRequest { name, sync: time % 2 == 1, ..DeleteImageRequest::default() };
        images.delete(request(gone, None)).await.expect("it goes");
    }
}

/// A command line for a shell, once a time; `$n` is who it is and `$t` which time it is.
fn shell(daemon: &Daemon, number: usize, script: &str) -> Command {
    let whole = format!("for t in $(seq {TIMES}); do {script}; done");
    let folder = buildd_tests::daemon::binaries();
    let path = format!("{}:{}", text(&folder), std::env::var("PATH").expect("a PATH"));
    let mut shell = Command::new("sh");
    shell.args(["-euc", &whole]).env("n", number.to_string()).env("PATH", path);
    shell.env("BUILDKIT_HOST", daemon.address());
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell
}

#[tokio::test(flavor = "multi_thread")]
async fn f_21_fifty_clients_keep_what_they_lease_name_and_build() {
    let mut daemon = Daemon::start();
    import_base(&daemon);
    let dir = context(&[("Dockerfile", "FROM alpine\nARG N\nRUN echo $N > /n\nRUN cat /n > /m\n")]);
    let (dir, archives) = (text(dir.path()), daemon.path("archive"));
    daemon.buildctl(&["build", "-t", "one", "--build-arg", "N=one", dir]).ok();
    for n in 0..IMPORTS {
        let (name, archive) = (format!("imported-{n}"), format!("{}-{n}", text(&archives)));
        daemon.buildctl(&["image", "tag", "one", &name]).ok();
        daemon.buildctl(&["image", "export", "-o", &archive, &name]).ok();
        daemon.buildctl(&["image", "rm", &name]).ok();
    }
    let import = format!(
        "buildctl image import -q {0}-$n; buildctl image export -o {0}-$n.again imported-$n; \
         cmp {0}-$n {0}-$n.again; buildctl image rm imported-$n",
        text(&archives)
    );
    let build = format!(
        "buildctl build -q --build-arg N=$n-$t -t built-$n {dir}; test $(buildctl run --rm built-$n cat /m) = $n-$t"
    );
    let scripts = (0..IMPORTS)
        .map(|n| (n, import.as_str()))
        .chain((0..BUILDS).map(|n| (n, build.as_str())))
        .chain((0..PRUNES).map(|n| (n, "buildctl prune --all")));
    let shells: Vec<_> = scripts
        .map(|(n, script)| (script, shell(&daemon, n, script).spawn().expect("start a shell")))
        .collect();
    let channel = connect(&daemon).await;
    let clients: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(client(channel.clone(), n))).collect();
    for one in clients {
        one.await.expect("no panic");
    }
    for (script, shell) in shells {
        let ran: Ran = shell.wait_with_output().expect("it ends").into();
        assert_eq!(ran.code, Some(0), "{script}: {ran:?}\n{}", daemon.log());
    }
    assert_eq!(daemon.stop(Signal::TERM), Some(0), "{}", daemon.log());
    let found = daemon.fsck(&[]);
    assert_eq!(found.code, Some(0), "{found:?}");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
