use proptest::prelude::*;

use super::*;

const OURS: &str = "# >>> samara: the image mirror of this node; the uninstall takes these lines out
[host.\"http://127.0.0.1:29080\"]
  capabilities = [\"pull\", \"resolve\"]
  dial_timeout = \"200ms\"
# <<< samara
";

fn block() -> Block {
    Block::on_port(29_080)
}

fn added(text: &str) -> String {
    add(text, &block(), Made::Lines).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

#[test]
fn the_block_comes_before_all_hosts_and_their_comment_and_after_the_server() {
    let text = "server = \"https://docker.io\" # kept\n\n# the company's\n[host.\"https://a\"]\n  ca = \"a.crt\"\n[host.\"https://b\"]\n";
    let expected = format!(
        "server = \"https://docker.io\" # kept\n\n{OURS}# the company's\n[host.\"https://a\"]\n  ca = \"a.crt\"\n[host.\"https://b\"]\n"
    );
    assert_eq!(added(text), expected);
}

#[test]
fn a_new_file_says_what_is_to_go_with_it() {
    let text = add("", &block(), Made::Folder).unwrap();
    assert!(text.starts_with("# >>> samara"));
    assert_eq!(remove(&text), Ok(Some((String::new(), Made::Folder))));
    assert_eq!(remove("server = \"x\"\n"), Ok(None));
}

#[test]
fn another_port_replaces_the_block_and_keeps_what_it_says_of_before() {
    let text = add("", &block(), Made::File).unwrap();
    let moved = add(&text, &Block::on_port(1), Made::Lines).unwrap();
    assert!(moved.contains("127.0.0.1:1\"") && !moved.contains("29080"));
    assert_eq!(remove(&moved), Ok(Some((String::new(), Made::File))));
}

#[test]
fn a_block_that_is_not_first_any_more_is_moved() {
    let text = format!("[host.\"https://new\"]\n{OURS}");
    assert_eq!(added(&text), format!("{OURS}[host.\"https://new\"]\n"));
}

#[test]
fn lines_in_strings_and_lists_are_no_tables() {
    for text in [
        "x = \"\"\"\n[host]\n# \"\"\"\n[host.\"https://a\"]\n",
        "x = [\n[1],\n[2],\n]\n[host.\"https://a\"]\n",
        "x = '''\n# c\n[host.\"https://a\"]'''\n",
    ] {
        let after = added(text);
        assert_eq!(remove(&after).unwrap().unwrap().0, text);
        let (before, after): (toml::Table, toml::Table) =
            (toml::from_str(text).unwrap(), toml::from_str(&after).unwrap());
        assert_eq!(before["x"], after["x"]);
    }
}

#[test]
fn what_cannot_be_edited_is_left_alone_and_says_why() {
    for (text, error) in [
        ("[host\n", None),
        ("host = { \"https://a\" = {} }\n", Some(TextError::NoPlace)),
        ("host.\"https://a\".skip_verify = true\n", Some(TextError::NoPlace)),
        ("[host.\"http://127.0.0.1:29080\"]\n", Some(TextError::NoPlace)),
        ("# <<< samara\n", Some(TextError::Damaged)),
        (&OURS[..OURS.len() - 13], Some(TextError::Damaged)),
        (&format!("{OURS}{OURS}"), Some(TextError::Damaged)),
        (&"#".repeat(MAX_FILE + 1), Some(TextError::TooLong(MAX_FILE + 1))),
    ] {
        let found = add(text, &block(), Made::Lines).unwrap_err();
        match error {
            Some(error) => assert_eq!(found, error, "{text:?}"),
            None => assert!(matches!(found, TextError::Unparsable(_)), "{found}"),
        }
    }
}

#[test]
fn a_file_full_of_lines_that_look_like_tables_is_given_up_soon() {
    let text = format!("x = [\n{}]\n[host.\"https://a\"]\n", "[],\n".repeat(10_000));
    assert_eq!(add(&text, &block(), Made::Lines), Err(TextError::NoPlace));
}

/// Hosts files as people write them, with or without a line end at the end.
fn files() -> impl Strategy<Value = String> {
    let root = prop::sample::select(vec![
        "",
        "\n",
        "# a comment\n",
        "server = \"https://docker.io\"\n",
        "server = 'x' # why\r\n",
        "ca = [\"a.crt\",\n  # b\n  \"b.crt\"]\n",
        "client = [\n[\"a.cert\", \"a.key\"],\n]\n",
        "[header]\n  x = \"\"\"\n[host.\"fake\"]\n\"\"\"\n",
    ]);
    let host = (
        prop::sample::select(vec!["", "\n", "# its comment\n", "\n  # indented\n", "\r\n"]),
        prop::sample::select(vec!["", "  ", "\t"]),
        prop::sample::select(vec![
            "",
            "  capabilities = [\"pull\"]\n",
            "  skip_verify = true\r\n",
            "  # nothing\n",
        ]),
    );
    (
        root,
        prop::collection::vec(host, 0..4),
        prop::sample::select(vec!["", "\n", "# the end"]),
        any::<bool>(),
    )
        .prop_map(|(root, hosts, end, cut)| {
            let mut text = root.to_owned();
            for (number, (before, indent, body)) in hosts.into_iter().enumerate() {
                for part in [before, indent, &format!("[host.\"https://mirror{number}.example\"]\n"), body] {
                    text.push_str(part);
                }
            }
            text.push_str(end);
            if cut && text.ends_with('\n') && !text.ends_with("\r\n") {
                text.pop();
            }
            text
        })
}

proptest! {
    #[test]
    fn taking_out_gives_back_every_byte(text in files(), made in prop::sample::select(vec![Made::Lines, Made::File])) {
        let after = add(&text, &block(), made).unwrap();
        let (before, _) = remove(&after).unwrap().unwrap();
        prop_assert_eq!(before, text);
    }

    #[test]
    fn putting_in_twice_is_putting_in_once(text in files()) {
        let once = added(&text);
        prop_assert_eq!(added(&once), once);
    }

    #[test]
    fn the_block_is_first_and_all_else_means_what_it_meant(text in files()) {
        let after = added(&text);
        prop_assert!(is_first(&after, &block()));
        let mut after: toml::Table = toml::from_str(&after).unwrap();
        let hosts = after["host"].as_table_mut().unwrap();
        hosts.remove(block().url());
        if hosts.is_empty() {
            after.remove("host");
        }
        prop_assert_eq!(after, toml::from_str::<toml::Table>(&text).unwrap());
    }

    #[test]
    fn no_text_at_all_panics(text in "[ -~\n\"\\[\\]#]{0,60}") {
        if let Ok(after) = add(&text, &block(), Made::Lines) {
            prop_assert_eq!(remove(&after).unwrap().unwrap().0, text);
        }
    }
}
