//! What users are told of options and metrics is true, and complete.
#![allow(clippy::unwrap_used, clippy::panic)] // a failure is the test's failure

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::PossibleValue;
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

/// The cells of the rows of all tables of the tracker's page whose first cell begins with this.
fn rows(beginning: &str) -> Vec<Vec<String>> {
    let page = std::fs::read_to_string(docs("tracker.md")).unwrap();
    let cells = |line: &str| {
        // `\|` is one that separates no cells.
        let line = line.replace("\\|", "\0");
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('\0', "|")).collect()
    };
    page.lines().filter(|line| line.starts_with(&format!("| {beginning}"))).map(cells).collect()
}

/// What stands in a cell in backticks.
fn codes(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
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

#[test]
fn the_page_has_every_option_with_its_variable_and_its_default() {
    let options = options();
    let mut documented = Vec::new();
    for row in rows("`--") {
        let option = codes(&row[0])[0].trim_start_matches("--");
        let name = option.split([' ', '[']).next().unwrap();
        let arg = options.get_arguments().find(|arg| arg.get_long() == Some(name));
        let arg = arg.unwrap_or_else(|| panic!("--{name} is no option"));
        let possible = arg.get_possible_values();
        let possible: Vec<&str> = possible.iter().map(PossibleValue::get_name).collect();
        let value = option[name.len()..].trim_matches([' ', '[', ']', '=']);
        let takes = arg.get_value_names().unwrap()[0].as_str();
        assert!([takes, &possible.join("|")].contains(&value), "--{name} {value}");
        let variable = arg.get_env().unwrap().to_str().unwrap();
        assert!(codes(&row[1]).contains(&variable), "{variable} of --{name}: {}", row[1]);
        let default = arg.get_default_values();
        assert!(default.is_empty() || default == [row[2].trim_matches('`')], "--{name}: {default:?}");
        documented.push(name.to_owned());
    }
    documented.sort();
    assert_eq!(documented, long_names(&options));
}

/// A sample's name and the names of its labels, as the page writes them.
fn written(sample: &str) -> String {
    let Some((name, labels)) = sample.split_once('{') else {
        return sample.split(' ').next().unwrap().to_owned();
    };
    let labels: Vec<&str> =
        labels.split('"').step_by(2).filter_map(|part| part.trim_matches(',').strip_suffix('=')).collect();
    format!("{name}{{{}}}", labels.join(","))
}

#[tokio::test]
async fn the_page_has_every_metric_with_its_labels() {
    let tracker = common::start("127.0.0.1:0", true).await;
    // The first sweep counts peers.
    let swept = async {
        loop {
            let metrics = tracker.get("/metrics").await.text();
            if metrics.contains("samara_tracker_peers{") {
                return metrics;
            }
        }
    };
    let metrics = tokio::time::timeout(Duration::from_secs(20), swept).await.expect("a sweep");
    let samples: Vec<&str> = metrics.lines().filter(|line| !line.starts_with('#')).collect();
    let real: BTreeSet<String> = samples.iter().map(|sample| written(sample)).collect();
    let rows = rows("`samara_tracker_");
    let full =
        |name: &str| if name.starts_with('_') { format!("samara_tracker{name}") } else { name.to_owned() };
    let documented = rows.iter().flat_map(|row| codes(&row[0])).map(full);
    assert_eq!(documented.collect::<BTreeSet<_>>(), real);

    for sample in samples {
        let row =
            rows.iter().find(|row| codes(&row[0]).iter().any(|name| full(name) == written(sample))).unwrap();
        for reason in sample
            .split('"')
            .skip(1)
            .step_by(2)
            .filter(|_| sample.contains("reason=") || sample.contains("answer="))
        {
            assert!(codes(&row[1]).contains(&reason), "{reason}: {}", row[1]);
        }
    }
}
