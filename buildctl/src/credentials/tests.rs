//! Names of registries, as logins know them.

use super::*;

#[test]
fn names_of_registries() {
    for (text, expected) in [
        ("docker.io", HUB),
        ("https://index.docker.io/v1/", HUB),
        ("registry-1.docker.io", HUB),
        ("https://reg.example/", "reg.example"),
        ("http://reg.example:5000/v2/", "reg.example:5000"),
        ("[::1]:5000", "[::1]:5000"),
    ] {
        assert_eq!(name(text).expect(text), expected);
    }
    for text in ["", "reg.example/team/image", "https://", "/v1/"] {
        name(text).expect_err(text);
    }
}
