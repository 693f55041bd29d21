//! A link that is read is written so that it is read the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torrent::Magnet;

fuzz_target!(|link: &str| {
    let Ok(magnet) = Magnet::parse(link) else { return };
    let written = magnet.to_string();
    let again = Magnet::parse(&written).expect("what is written can be read");
    assert_eq!(again, magnet);
    assert_eq!(again.to_string(), written);
    assert!(written.bytes().all(|byte| byte.is_ascii_graphic()), "{written}");
    assert!(magnet.v1.is_some() || magnet.v2.is_some());
    let texts = magnet.name.iter().chain(&magnet.trackers).chain(&magnet.web_seeds).chain(&magnet.peers);
    for text in texts {
        assert!(!text.is_empty() && !text.contains(char::is_control), "{text:?}");
    }
    assert!(magnet.select.iter().all(|range| range.start() <= range.end()));
});
