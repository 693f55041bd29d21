//! The conformance suite of the OCI distribution specification against the mirror, as a registry that can only be read.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::process::Command;

use e2e::runtime::image::Image;
use e2e::runtime::log::Log;
use e2e::runtime::shelf::Shelf;
use mirror::{Access, Options};
use xtask::tools::Tools;

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_conforms_to_the_specification_of_pulls() {
    if !Tools::can_build() {
        e2e::real::skip("the conformance suite", "no Go to build it: https://go.dev/dl, 1.24 or later")
            .unwrap();
        return;
    }
    let program = tokio::task::spawn_blocking(Tools::build_conformance).await.unwrap().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let log = Log::default();
    // The suite names no registry.
    let options = Options { default_host: Some("127.0.0.1:5000".into()), ..Options::default() };
    let shelf = Shelf::serve(listener, options, &log);
    let image = Image::new("app", 1).unwrap();
    shelf.add(&image, Access::Node).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let digests = |manifests: bool| {
        let objects = image.objects().iter().filter(|object| object.is_manifest() == manifests);
        objects.map(|object| object.digest().to_string()).collect::<Vec<_>>().join(" ")
    };
    let mut command = Command::new(program);
    command.current_dir(folder.path()).env("OCI_REGISTRY", address.to_string()).env("OCI_TLS", "disabled");
    command.env("OCI_REPO1", &image.repository).env("OCI_RESULTS_DIR", folder.path());
    for off in [
        "API_PUSH",
        "API_BLOBS_DELETE",
        "API_MANIFESTS_DELETE",
        "API_TAGS_DELETE",
        "API_TAGS_LIST",
        "API_REFERRER",
    ] {
        command.env(format!("OCI_{off}"), "false");
    }
    command.env("OCI_RO_DATA_TAGS", "v1");
    command.env("OCI_RO_DATA_MANIFESTS", digests(true)).env("OCI_RO_DATA_BLOBS", digests(false));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    println!("{report}\n{errors}");
    // Not the exit code: with content that it has not pushed itself, the suite falls over its own report as YAML after all is said.
    assert!(report.contains("OCI Conformance Result: Pass"));
    assert_eq!((count(&report, "FAIL"), count(&report, "Error"), count(&report, "Skip")), (0, 0, 0));
    assert_eq!(count(&report, "Pass"), PASSES);
    let asked = log.by_object();
    for name in ["tag", "index", "manifest", "config", "layer0", "layer1", "layer2"] {
        assert_eq!(asked[name], ["mirror HEAD 200", "mirror GET 200"], "{name}");
    }
}

/// Tests of the suite that a registry which can only be read has to pass.
const PASSES: u32 = 18;

/// A line of the report's summary: `  FAIL......:   0`.
fn count(report: &str, what: &str) -> u32 {
    let line = report.lines().find(|line| line.trim_start().starts_with(&format!("{what}.")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no count of {what}"))
}
