use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use torrent::{Builder, Version};

use super::*;

/// What each write writes.
const DATA: &[u8; 16] = b"sixteen bytes...";

/// A disk of one file at `a/b/data`, in a folder beside which lies what must not be touched.
fn disk(folder: &Path) -> (Disk, PathBuf) {
    let path = RelPath::parse("a/b/data").unwrap();
    let builder = Builder::new(Version::V2, 16 * 1024).unwrap();
    let mut hasher = builder.file_hasher(1);
    hasher.update(DATA);
    let metainfo = builder.build(vec![(path.clone(), hasher.finish())]).unwrap();
    let outside = folder.join("outside");
    std::fs::create_dir_all(outside.join("b")).unwrap();
    (
        Disk::open(&folder.join("root"), metainfo.files().iter().map(|file| file.size), &[path]).unwrap(),
        outside,
    )
}

fn is_untouched(outside: &Path) -> bool {
    let names = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    names(outside) == 1 && names(&outside.join("b")) == 0
}

#[test]
fn t064_a_folder_that_becomes_a_link_while_files_are_opened_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, outside) = disk(folder.path());
    let (above, link) = (folder.path().join("root/a"), folder.path().join("root/link"));
    disk.write(0, 0, DATA).unwrap();
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let done = AtomicBool::new(false);
    let (mut written, mut refused) = (0, 0);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::renameat_with(fs::CWD, &above, fs::CWD, &link, fs::RenameFlags::EXCHANGE).unwrap();
            }
        });
        for _ in 0..100_000 {
            disk.open.lock().unwrap().clear();
            match disk.write(0, 0, DATA) {
                Ok(()) => written += 1,
                Err(_) => refused += 1,
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(is_untouched(&outside));
    assert!(written > 0 && refused > 0, "{written} written, {refused} refused: there was no race");
}

#[test]
fn t064_no_part_of_a_path_may_be_a_link() {
    for link in ["a", "a/b", "a/b/data"] {
        let folder = tempfile::tempdir().unwrap();
        let (disk, outside) = disk(folder.path());
        let link = folder.path().join("root").join(link);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        assert!(disk.write(0, 0, DATA).is_err(), "{}", link.display());
        assert!(disk.read(0, 0, &mut [0; 16]).is_err(), "{}", link.display());
        assert!(is_untouched(&outside));
    }
}

#[test]
fn t066_only_a_regular_file_of_one_name_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, outside) = disk(folder.path());
    let (path, other) = (folder.path().join("root/a/b/data"), outside.join("b/other"));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let refuses = |what: &str| {
        let refused = disk.write(0, 0, DATA);
        assert!(refused.is_err(), "{what}");
        assert!(disk.open.lock().unwrap().is_empty(), "{what} is kept open");
    };

    std::fs::write(&other, b"not ours").unwrap();
    std::fs::hard_link(&other, &path).unwrap();
    refuses("a second name of another file");
    assert_eq!(std::fs::read(&other).unwrap(), b"not ours");

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    refuses("a folder");

    std::fs::remove_dir(&path).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    refuses("a socket");

    std::fs::remove_file(&path).unwrap();
    fs::mknodat(fs::CWD, &path, fs::FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    refuses("a FIFO");
    // And to be read does not wait for a writer.
    assert!(disk.read(0, 0, &mut [0; 16]).is_err());
}

#[test]
fn what_lies_in_memory_is_read_without_a_thread_to_wait_on() {
    // Not there on every machine.
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
    let (disk, _) = disk(folder.path());
    assert!(disk.in_memory, "/dev/shm is a tmpfs");
    disk.write(0, 0, DATA).unwrap();
    let mut buffer = [0; DATA.len()];
    assert!(disk.read_now(0, 0, &mut buffer).unwrap());
    assert_eq!(&buffer, DATA);
    assert!(!disk.read_now(0, 1, &mut buffer).unwrap(), "what is too short is left to who may wait");
}

#[test]
fn what_is_in_the_page_cache_can_be_sent_and_what_is_not_there_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, _) = disk(folder.path());
    assert!(disk.cached(0, 0, 16).is_err(), "there is no such file");
    disk.write(0, 0, DATA).unwrap();
    let file = disk.cached(0, 4, 12).unwrap().expect("it was just written");
    let mut bytes = [0; 12];
    file.read_exact_at(&mut bytes, 4).unwrap();
    assert_eq!(bytes, DATA[4..]);
    file.set_len(10).unwrap();
    assert!(disk.cached(0, 4, 12).unwrap().is_none(), "it has become shorter");
    assert!(disk.cached(0, 4, 0).unwrap().is_none());
}
