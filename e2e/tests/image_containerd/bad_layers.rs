//! Layers that want out of the image. Nobody of ours unpacks anything: the mirror gives the bytes, and the runtime does with them what it does
//! with anybody's.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use e2e::runtime::image::Image;
use e2e::runtime::suite::World;
use mirror::Access;
use xtask::oci::{Entry, archive};

/// What lies outside, and must be the same afterwards.
const SECRET: &[u8] = b"of the host";
const EVIL: &[u8] = b"of the image";

/// A file of the image.
fn file(path: &str) -> Entry<'_> {
    Entry { path, kind: b'0', link: "", content: EVIL }
}

fn link<'a>(path: &'a str, kind: u8, to: &'a str) -> Entry<'a> {
    Entry { path, kind, link: to, content: b"" }
}

/// The layers; `outside` is a folder of the host.
fn layers(outside: &str) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let up = format!("{}{outside}/secret", "../".repeat(12));
    let absolute = format!("{outside}/secret");
    // The extended header says 512 bytes, the header none: what one takes for content the other takes for a header.
    let hidden = archive(&[file(&absolute)])?;
    let extended = [
        Entry { path: "sizes", kind: b'x', link: "", content: b"12 size=512\n" },
        Entry { path: "honest", kind: b'0', link: "", content: b"" },
    ];
    let mut sizes = archive(&extended)?;
    sizes.truncate(sizes.len() - 1024);
    sizes.extend(hidden);
    Ok(vec![
        ("up", archive(&[file(&up)])?),
        ("absolute", archive(&[file(&absolute)])?),
        ("through a symbolic link", archive(&[link("way", b'2', outside), file("way/secret")])?),
        ("through a relative one", {
            let out = format!("{}{outside}", "../".repeat(12));
            archive(&[link("way", b'2', &out), file("way/secret")])?
        }),
        ("a hard link out", archive(&[link("copy", b'1', &absolute)])?),
        ("a hard link up", archive(&[link("copy", b'1', &up)])?),
        ("a hard link out that is written", archive(&[link("copy", b'1', &absolute), file("copy")])?),
        ("two sizes", sizes),
    ])
}

/// Whatever the runtime says to such an image, nothing of the host is read or written by it, and the mirror gives each layer as it is.
pub async fn refused_or_kept_inside(world: &World) -> Result<()> {
    let outside = world.folder.join("outside");
    fs::create_dir(&outside)?;
    fs::write(outside.join("secret"), SECRET)?;
    let shelf = super::shelf(world, Access::Node).await?;
    let path = outside.to_str().context("the folder's path is not UTF-8")?;
    // An honest one is pulled: what is refused below is refused for what it is.
    let honest = ("nothing bad", archive(&[file("inside")])?);
    for (number, (name, layer)) in [honest].into_iter().chain(layers(path)?).enumerate() {
        let image = Image::of_layers(&format!("bad{number}"), vec![layer]);
        world.upstream.add(&image);
        shelf.add(&image, Access::Node)?;
        let pulled = world.containerd.runtime.pull(&image.reference(), &image.digest()).await;
        untouched(&outside).with_context(|| format!("a layer with {name}: {pulled:?}"))?;
        // All of them are called the same in the log.
        let given = world.log.by_object().remove("layer0").unwrap_or_default();
        ensure!(given == vec!["mirror GET 200"; number + 1], "a layer with {name}: {given:?}");
        ensure!(number > 0 || pulled.is_ok(), "an honest layer: {pulled:?}");
        eprintln!("a layer with {name} is {}", if pulled.is_ok() { "kept inside" } else { "refused" });
    }
    Ok(())
}

fn untouched(outside: &Path) -> Result<()> {
    let names: Vec<_> = fs::read_dir(outside)?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    ensure!(names == ["secret"], "there is {names:?} outside");
    let secret = outside.join("secret");
    ensure!(fs::read(&secret)? == SECRET, "what lies outside was overwritten");
    ensure!(fs::metadata(&secret)?.nlink() == 1, "what lies outside is in the image too");
    Ok(())
}
