//! The image of the test pods and of every pod's sandbox: the static toolbox and nothing else.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use xtask::oci::{Image, Layer};
use xtask::tools::Tools;

/// Its name on every node. Its entry point is the toolbox: see e2e/hyperkube/toolbox/main.go for what it can do.
pub const TOOLBOX: &str = "samara.dev/toolbox:e2e";

/// Writes it as an OCI archive into the slot's folder.
pub fn write_toolbox(slot: &super::slot::Slot, tools: &Tools) -> Result<PathBuf> {
    let image = Image {
        name: TOOLBOX.into(),
        entrypoint: vec!["/toolbox".into()],
        command: vec!["pause".into()],
        layers: vec![Layer { path: "toolbox".into(), content: fs::read(tools.path("toolbox"))? }],
        ..Image::default()
    };
    let path = slot.dir.join("toolbox.tar");
    let mut bytes = Vec::new();
    image.write(&mut bytes)?;
    slot.write(&path, bytes)?;
    Ok(path)
}
