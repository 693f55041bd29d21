//! What users are told of options and metrics is true, and complete.
#![allow(clippy::unwrap_used)] // a failure is the test's failure

use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use tracker::{Args, ConfigFile};

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// All options but those that clap has by itself.
fn options() -> Command {
    let mut command = Args::command();
    command.build();
    command
}

fn long_names(command: &Command) -> Vec<String> {
    let long =
        |arg: &Arg| arg.get_long().filter(|name| !["help", "version"].contains(name)).map(str::to_owned);
    let mut names: Vec<String> = command.get_arguments().filter_map(long).collect();
    names.sort();
    names
}

#[test]
fn the_example_of_a_configuration_has_every_option_with_its_default() {
    let text = std::fs::read_to_string(docs("samara-tracker.toml")).unwrap();
    // `#key` is a setting, `# word` a comment.
    let settings =
        text.lines().filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')));
    let settings: Vec<&str> = settings.collect();
    let mut keys: Vec<&str> = settings.iter().map(|line| line.split_once(" = ").unwrap().0).collect();
    keys.sort_unstable();
    let options = options();
    let wanted: Vec<String> = long_names(&options).into_iter().filter(|name| name != "config").collect();
    assert_eq!(keys, wanted);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), settings.join("\n")).unwrap();
    let example = ConfigFile::read(file.path(), &options).unwrap().set_defaults(options.clone());
    for arg in options.get_arguments() {
        let shown = example.get_arguments().find(|shown| shown.get_id() == arg.get_id()).unwrap();
        let default = arg.get_default_values();
        assert!(default.is_empty() || default == shown.get_default_values(), "{}: {default:?}", arg.get_id());
    }
}
