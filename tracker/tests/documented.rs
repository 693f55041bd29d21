//! What users are told of options and metrics is true, and complete.
#![allow(clippy::unwrap_used, clippy::panic)] // a failure is the test's failure

use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use tracker::{Args, ConfigFile, ServeOptions};

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// The values of a key in a unit of systemd, without comments.
fn unit_values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let value = |line: &'u str| line.trim_start_matches('#').strip_prefix(key)?.strip_prefix('=');
    unit.lines().filter_map(value).collect()
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

#[test]
fn the_unit_of_systemd_uses_options_and_variables_that_there_are() {
    let unit = std::fs::read_to_string(docs("samara-tracker.service")).unwrap();
    let [started] = unit_values(&unit, "ExecStart")[..] else { panic!("one ExecStart in {unit}") };
    let words: Vec<&str> = started.split(' ').collect();
    assert_eq!(words[0], "/usr/local/bin/samara-tracker");
    options().try_get_matches_from(&words).unwrap();

    let variables = unit_values(&unit, "Environment");
    assert!(!variables.is_empty(), "also those in examples count");
    for variable in variables {
        let name = variable.split_once('=').unwrap().0;
        assert!(options().get_arguments().any(|arg| arg.get_env() == Some(name.as_ref())), "{name}");
    }

    assert_eq!(unit_values(&unit, "Type"), ["notify-reload"]);
    let [stop] = unit_values(&unit, "TimeoutStopSec")[..] else { panic!("one TimeoutStopSec in {unit}") };
    let drain = ServeOptions::default().drain.as_secs();
    assert!(stop.parse::<u64>().unwrap() > drain, "requests may go on for {drain} s");
}
