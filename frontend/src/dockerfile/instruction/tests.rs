//! Instructions and the faults of the grammar, with their lines.

use super::*;
use crate::dockerfile::lines;

fn fault(text: &str) -> (String, Vec<Lines>) {
    let document = lines::read(text.as_bytes()).expect("statements");
    let fault = parse(&document).expect_err(text);
    (fault.message, fault.lines)
}

#[test]
fn faults_name_line_and_remedy() {
    for (text, wanted) in [
        ("FORM a", "unknown instruction: FORM (did you mean FROM?)"),
        ("XYZZY a", "unknown instruction: XYZZY"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            "invalid name for build stage: \"1x\", name can't start with a number or contain symbols",
        ),
        ("FROM --platfrom=x a", "unknown flag: --platfrom (did you mean platform?)"),
        ("COPY", "COPY requires at least two arguments"),
        ("COPY a", "COPY requires at least two arguments"),
        ("COPY --from a b c", "missing a value on flag: from"),
        ("COPY --link=2 a b", "expecting boolean value for flag link, not: 2"),
        ("COPY --chown=a --chown=b a b", "duplicate flag specified: chown"),
        (
            "COPY --from=$x a b",
            "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround",
        ),
        ("COPY https://x/y /", "source can't be a URL for COPY"),
        ("COPY https://x/y.git /", "source can't be a git ref for COPY"),
        ("COPY a <<E\nE", "COPY cannot accept a heredoc as a destination"),
        ("ENV a", "ENV must have two arguments"),
        ("ENV a=b c", "Syntax error - can't find = in \"c\". Must be of the form: name=value"),
        ("ENV =b", "ENV names can not be blank"),
        ("SHELL sh", "SHELL requires the arguments to be in JSON form"),
        ("RUN [\"a\", 1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("RUN --mount=type=nonsense true", "unsupported mount type \"nonsense\""),
        ("RUN --mount=type=cahce,target=/x true", "unsupported mount type \"cahce\" (did you mean cache?)"),
        ("RUN --mount=type=cache true", "target is required"),
        ("RUN --mount=tagret=/x true", "unexpected key 'tagret' in 'tagret=/x' (did you mean target?)"),
        (
            "RUN --mount=target=/x,from=$y true",
            "'from' doesn't support variable expansion, define alias stage instead",
        ),
        ("RUN --network=foo true", "unsupported network mode \"foo\""),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD FOO x", "unknown instruction: FOO"),
        ("HEALTHCHECK FOO", "unknown type \"FOO\" in HEALTHCHECK (try CMD)"),
        ("HEALTHCHECK --interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms"),
        ("USER", "USER requires exactly one argument"),
        ("VOLUME [\"\"]", "VOLUME specified can not be an empty string"),
    ] {
        let (message, lines) = fault(&format!("\n\n{text}"));
        let message = message.strip_prefix("dockerfile parse error on line 3: ").expect(&message);
        assert!(
            message == wanted || message.starts_with(wanted) && wanted.ends_with("FOO"),
            "{message} / {wanted}"
        );
        assert_eq!(lines[0].first, 3, "{text}");
    }
}

#[test]
fn secret_and_cache_mounts() {
    let mount =
        super::mount::parse("type=cache,target=/c,id=x,sharing=locked,mode=0700,uid=5,ro").expect("fine");
    assert_eq!(
        (mount.kind, mount.sharing, mount.mode, mount.uid),
        (MountKind::Cache, Sharing::Locked, Some(0o700), Some(5))
    );
    assert_eq!(mount.readonly, Some(true));
    let mount = super::mount::parse("type=tmpfs,\"target=/a,b\",size=2m").expect("fine");
    assert_eq!((mount.target.as_str(), mount.size), ("/a,b", 2 << 20));
}
