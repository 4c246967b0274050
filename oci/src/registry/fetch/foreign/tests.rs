//! Foreign layers: which have other places, and which places those may be.

use super::*;
use crate::digest::Digest;

#[test]
fn only_foreign_layers_lie_elsewhere() {
    let may = |media_type: &str, urls: &[&str]| {
        let mut descriptor = Descriptor::new(media_type, Digest::of(b""), 0);
        descriptor.urls = urls.iter().map(|url| (*url).to_owned()).collect();
        may_be_elsewhere(&descriptor)
    };
    assert!(may("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", &["https://a/"]));
    assert!(may("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", &["https://a/"]));
    assert!(!may("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", &[]));
    assert!(!may("application/vnd.oci.image.layer.v1.tar+gzip", &["https://a/"]));
    assert!(!may("application/vnd.oci.image.config.v1+json", &["https://a/"]));
}

#[test]
fn an_author_may_not_send_us_anywhere() {
    for (url, fine) in [
        ("https://layers.example/a", true),
        ("http://layers.example:8080/a", true),
        ("https://93.184.216.34/a", true),
        ("file:///etc/passwd", false),
        ("ftp://layers.example/a", false),
        ("https://u:p@layers.example/a", false),
        ("http://169.254.169.254/latest/meta-data", false),
        ("http://127.0.0.1:2375/", false),
        ("http://localhost/", false),
        ("http://10.0.0.1/", false),
        ("http://192.168.0.1/", false),
        ("http://[::1]/", false),
        ("http://[fd00::1]/", false),
        ("http://2130706433/", false),
        ("/relative", false),
        ("", false),
    ] {
        assert_eq!(check(url, Reach::Public).is_ok(), fine, "{url}");
    }
}
