//! Writes the seeds again: `cargo run --example seeds` in this folder.

use std::io::Result;
use std::path::Path;

const MAGIC: [u8; 8] = 0x0417_2710_1980_u64.to_be_bytes();

fn main() -> Result<()> {
    let connect = [&MAGIC[..], &[0; 4], b"tran"].concat();
    let announce = |event, port: u16| {
        let mut body = [&[0; 8], &[0, 0, 0, 1][..], b"tran", &[0xaa; 20], b"-XX0001-abcdefghijkl"].concat();
        body.extend([[0; 8], [0, 0, 0, 0, 0, 0, 0, 5], [0; 8]].as_flattened());
        body.extend([0, 0, 0, event]);
        body.extend([0; 8]);
        body.extend((-1i32).to_be_bytes());
        body.extend(port.to_be_bytes());
        body
    };
    let scrape = [&[0; 8], &[0, 0, 0, 2][..], b"tran", &[0xaa; 20], &[0xbb; 20]].concat();
    let with_options = [&announce(2, 2000), &b"\x01\x02\x09/announce\0"[..]].concat();
    let seeds: [(&str, &[(u8, &[u8])]); 5] = [
        ("connect", &[(0, &connect), (2, &connect), (4, &connect), (0xff, &connect)]),
        (
            "announce",
            &[(1, &with_options), (3, &announce(0, 2001)), (9, &announce(1, 2002)), (1, &announce(3, 2000))],
        ),
        ("announce_v6", &[(5, &announce(2, 2000)), (7, &announce(0, 2001))]),
        ("scrape", &[(1, &announce(2, 2000)), (1, &scrape), (1, &scrape[..16])]),
        ("refused", &[(0, &announce(2, 2000)), (1, &announce(2, 22)), (1, &connect)]),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/tracker_udp");
    std::fs::create_dir_all(&folder)?;
    for (name, packets) in seeds {
        let mut bytes = Vec::new();
        for (sender, packet) in packets {
            let length = packet.len().div_ceil(8);
            bytes.extend([*sender, length as u8]);
            bytes.extend(*packet);
            bytes.resize(bytes.len() + length * 8 - packet.len(), 0);
        }
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
