//! Request and result: what a client wants built, and the LLB and metadata that come back.
//!
//! The names of frontends and the keys of options and metadata are BuildKit's: clients send and read them.

use std::collections::BTreeMap;

use buildd_api::buildkit::pb;

/// Metadata key of the list of platforms (JSON).
pub const PLATFORMS_KEY: &str = "refs.platforms";
/// Metadata key of an image config; of a list of platforms, followed by `/` and the platform.
pub const IMAGE_CONFIG_KEY: &str = "containerimage.config";
/// Metadata key of the time that no time in the result is to be later than, in seconds since 1970.
pub const EPOCH_KEY: &str = "source.date.epoch";
/// Metadata key of the config of the base image; suffixed as [`IMAGE_CONFIG_KEY`].
pub const BASE_CONFIG_KEY: &str = "containerimage.base.config";

/// The frontend that is built in.
pub const DOCKERFILE_FRONTEND: &str = "dockerfile.v0";
/// The frontend that runs an image.
pub const GATEWAY_FRONTEND: &str = "gateway.v0";

/// The option that names the image of a frontend.
pub const SOURCE_OPTION: &str = "source";
/// The option with all that a text says to the frontend it asks for: whoever gets it was chosen by a text.
pub const CMDLINE_OPTION: &str = "cmdline";
/// The option by which a client asks about a text instead of building it.
pub const REQUEST_OPTION: &str = "requestid";
/// The option that lists what a frontend must be able to do.
const CAPABILITIES_OPTION: &str = "frontend.caps";
/// Begins the name of an option that is a build argument.
pub const BUILD_ARGUMENT: &str = "build-arg:";
/// The argument, and the client's variable, that bounds all times of a result.
pub const EPOCH_ARGUMENT: &str = "SOURCE_DATE_EPOCH";

/// What a client needs of a frontend, by name; `+forward`, which asks to hand the text on to a newer one then, is left out.
pub fn wanted_capabilities(opts: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let list = opts.get(CAPABILITIES_OPTION).map_or("", String::as_str);
    list.split(',').filter_map(|name| name.trim().split('+').next()).filter(|name| !name.is_empty())
}

/// What a client wants built.
#[derive(Clone, Debug, Default)]
pub struct FrontendRequest {
    /// Frontend options, as clients send them: `filename`, `target`, `build-arg:X`, …
    pub opts: BTreeMap<String, String>,
    /// Definitions a client sends instead of files: `context`, `dockerfile`, and named contexts `input:<name>`.
    pub inputs: BTreeMap<String, pb::Definition>,
    /// The session whose files are meant.
    pub session_id: String,
}

/// What is to be built.
#[derive(Clone, Debug, Default)]
pub struct FrontendResult {
    /// One definition for each platform, with the platform's id (`linux/amd64`); none is an empty file system. A build for one platform that
    /// did not ask for a list has one entry; `metadata` has [`PLATFORMS_KEY`] iff it is a list.
    pub refs: Vec<(String, Option<pb::Definition>)>,
    /// Image configs and the like, by BuildKit's keys.
    pub metadata: BTreeMap<String, Vec<u8>>,
}
