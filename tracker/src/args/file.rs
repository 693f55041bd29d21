//! The configuration file: options by their long names, in TOML.
//!
//! Its values become the defaults of the command line, so that an option is defined in one place, and a variable or an argument
//! overrides what stands in the file.

use std::io::Read;
use std::path::Path;

use clap::{Arg, ArgAction, Command};
use toml::de::{DeTable, DeValue};

use super::TOKEN_OPTION;
use crate::limits::MAX_CONFIG_BYTES;

/// What is no matter of a file: it has been read when they count.
const NOT_IN_A_FILE: [&str; 3] = ["config", "help", "version"];

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It is not there, or is no text.
    #[error("cannot read the configuration from {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Something in it is wrong.
    #[error("{path}, line {line}: {problem}")]
    Content {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
        /// What.
        problem: Problem,
    },
}

/// What is wrong with a line. It repeats nothing of what could be a token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that is no option.
    #[error("`{0}` is no option")]
    Unknown(String),
    /// A token, for all to see who may read the file.
    #[error("`token`: a token has a file of its own; name that as `{TOKEN_OPTION}`")]
    Token,
    /// A value that the option does not take.
    #[error("`{key}`: {why}")]
    Value {
        /// The option.
        key: String,
        /// What it said.
        why: String,
    },
}

/// What a configuration file says: values by the options' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFile(Vec<(String, Vec<String>)>);

impl ConfigFile {
    /// Reads a file with options of `command`.
    ///
    /// # Errors
    /// See [`ConfigFileError`].
    pub fn read(path: &Path, command: &Command) -> Result<Self, ConfigFileError> {
        let named = || path.display().to_string();
        let text = read(path).map_err(|source| ConfigFileError::Read { path: named(), source })?;
        Self::parse(&text, command).map_err(|(at, problem)| {
            let line = 1 + text.bytes().take(at).filter(|&byte| byte == b'\n').count();
            ConfigFileError::Content { path: named(), line, problem }
        })
    }

    /// Reads the text of a file. With a [`Problem`] comes the byte at which it stands.
    fn parse(text: &str, command: &Command) -> Result<Self, (usize, Problem)> {
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            // Not the whole error: that shows the line.
            (at, Problem::Syntax(error.message().to_owned()))
        })?;
        let mut options = Vec::new();
        for (key, value) in table.get_ref() {
            let option = option(key.get_ref(), value.get_ref(), command);
            options.push(option.map_err(|problem| (key.span().start, problem))?);
        }
        Ok(ConfigFile(options))
    }

    /// Makes its values the defaults of `command`, which has the options of the one that it was read for.
    #[must_use]
    pub fn set_defaults(&self, command: Command) -> Command {
        self.0.iter().fold(command, |command, (id, values)| {
            command.mut_arg(id, |arg| arg.default_values(values.clone()))
        })
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(std::io::Error::other(format!("it has more than {MAX_CONFIG_BYTES} bytes")));
    }
    Ok(text)
}

/// The name that clap has for an option, and its values.
fn option(key: &str, value: &DeValue<'_>, command: &Command) -> Result<(String, Vec<String>), Problem> {
    if key == "token" {
        return Err(Problem::Token);
    }
    let wrong = |why: String| Problem::Value { key: key.to_owned(), why };
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(key));
    let arg =
        arg.filter(|_| !NOT_IN_A_FILE.contains(&key)).ok_or_else(|| Problem::Unknown(key.to_owned()))?;
    let values = values(arg, value).map_err(|why| wrong(why.to_owned()))?;
    check(key, &values, command).map_err(wrong)?;
    Ok((arg.get_id().to_string(), values))
}

fn values(arg: &Arg, value: &DeValue<'_>) -> Result<Vec<String>, &'static str> {
    match value {
        DeValue::Array(values) if matches!(arg.get_action(), ArgAction::Append) => {
            values.iter().map(|value| text(value.get_ref())).collect()
        }
        DeValue::Array(_) => Err("one value is wanted, not a list"),
        value => text(value).map(|value| vec![value]),
    }
}

fn text(value: &DeValue<'_>) -> Result<String, &'static str> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Boolean(is) => Ok(is.to_string()),
        _ => Err("a text in quotes, a whole number, true or false is wanted"),
    }
}

/// Asks the option itself, as if its values stood on the command line.
fn check(key: &str, values: &[String], command: &Command) -> Result<(), String> {
    let line = values.iter().map(|value| format!("--{key}={value}"));
    let line = std::iter::once(command.get_name().to_owned()).chain(line);
    match command.clone().try_get_matches_from(line) {
        Ok(_) => Ok(()),
        Err(error) => {
            // Behind the first paragraph stands where help is to be had.
            let text = error.render().to_string();
            let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
            Err(lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::super::Args;
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, (usize, Problem)> {
        ConfigFile::parse(text, &Args::command())
    }

    fn args(text: &str, line: &[&str]) -> Args {
        let command = parse(text).unwrap().set_defaults(Args::command());
        let matches = command.get_matches_from([&["samara-tracker"], line].concat());
        Args::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn what_stands_in_the_file_counts_unless_the_command_line_says_otherwise() {
        let text = "
            # comment
            listen = '127.0.0.1:7000'
            public = true
            max-peers = 5_000
            sibling = ['http://a:1', 'http://b:1']
        ";
        let file = args(text, &[]);
        assert_eq!((file.listen.port(), file.public, file.siblings.len()), (7000, true, 2));
        let overridden = args(text, &["--listen=127.0.0.1:8000", "--public=false", "--sibling=http://c:1"]);
        assert_eq!((overridden.listen.port(), overridden.public), (8000, false));
        assert_eq!(overridden.siblings, ["http://c:1"]);
        assert_eq!(args("sibling = 'http://a:1'", &[]).siblings, ["http://a:1"]);
        assert_eq!(args("sibling = []", &[]).siblings.len(), 0);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let problem = |text: &str| parse(text).unwrap_err().1.to_string();
        assert_eq!(problem("pubic = true"), "`pubic` is no option");
        for no_option in ["config", "help", "version", "max_peers", "siblings", "class"] {
            assert_eq!(problem(&format!("{no_option} = 'x'")), format!("`{no_option}` is no option"));
        }
        assert_eq!(
            problem("[listen]\nport = 1"),
            "`listen`: a text in quotes, a whole number, true or false is wanted"
        );
        assert_eq!(problem("listen = ['[::]:1']"), "`listen`: one value is wanted, not a list");
        assert_eq!(
            problem("sibling = [1.5]"),
            "`sibling`: a text in quotes, a whole number, true or false is wanted"
        );
        for wrong in [
            "listen = 'here'",
            "workers = 0",
            "public = 'perhaps'",
            "log-format = 'xml'",
            "max-peers = -1",
            "store-bytes = ''",
        ] {
            let (key, _) = wrong.split_once(' ').unwrap();
            let said = problem(wrong);
            assert!(said.starts_with(&format!("`{key}`: ")) && said.contains(&format!("--{key}")), "{said}");
            assert!(!said.contains('\n') && !said.contains("--help"), "{said}");
        }
    }

    #[test]
    fn t104_a_token_in_the_file_is_refused_and_never_repeated() {
        for text in
            ["token = 'canary'", "token = canary", "token = 'canary", "token = \"canary\\x\"", "'canary'"]
        {
            let (_, problem) = parse(text).unwrap_err();
            assert!(!problem.to_string().contains("canary"), "{problem}");
        }
        assert_eq!(parse("token = 'canary'"), Err((0, Problem::Token)));
    }

    #[test]
    fn an_error_names_file_and_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "public = true\n\nlisten = 7\n").unwrap();
        let said = ConfigFile::read(file.path(), &Args::command()).unwrap_err().to_string();
        assert!(said.starts_with(&format!("{}, line 3: `listen`: ", file.path().display())), "{said}");
        std::fs::write(file.path(), vec![b'#'; MAX_CONFIG_BYTES as usize + 1]).unwrap();
        assert!(ConfigFile::read(file.path(), &Args::command()).is_err(), "it is too large");
        std::fs::write(file.path(), b"log = \"\xff\"").unwrap();
        assert!(ConfigFile::read(file.path(), &Args::command()).is_err(), "it is no text");
    }
}
