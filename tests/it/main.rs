//! End-to-end tests: the real daemon, our own client and other people's.

mod bad_input;
mod build;
mod cgroup_v2;
mod checks;
mod clients;
mod containerd;
mod context;
mod corpus;
mod crash;
mod devices;
mod differential;
mod distribution;
mod dockerfile;
mod epoch;
mod export;
mod faults;
mod frontend_image;
mod fsck;
mod gateway;
mod gc;
mod gc_under_fire;
mod hostile;
mod hostile_api;
mod hostile_files;
mod hostile_load;
mod large_builds;
mod layers;
mod lifecycle;
mod limits;
mod login;
mod oci_layout;
mod options;
mod platforms;
mod real_input;
mod registry_client;
mod remote_files;
mod remote_git;
mod remote_git_ssh;
mod run;
mod sandbox;
mod secrets;
mod several;
mod slow_peers;
mod ssh;
mod step_logs;
mod steps;
mod tidy;

#[test]
fn no_test_file_is_forgotten() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/it");
    let listed = std::fs::read_to_string(format!("{dir}/main.rs")).expect("this file");
    for entry in std::fs::read_dir(dir).expect("this folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "main" || listed.contains(&format!("mod {module};")),
            "{name} is not listed in it/main.rs"
        );
    }
}
