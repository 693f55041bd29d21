//! OCI image archives: a tar of a layout, an index, a manifest, a config and the layers, byte for byte the same for the same content.

use std::io::{self, Write};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// One file, which is a layer of its own: binaries that did not change are not shipped again.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Path in the image, without a leading slash and without folders.
    pub path: String,
    /// What the file holds; it is executable and owned by root.
    pub content: Vec<u8>,
}

/// An image FROM scratch for linux/amd64.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Full reference, for example `registry.example/name:tag`.
    pub name: String,
    /// The program, unless a pod says another.
    pub entrypoint: Vec<String>,
    /// Its arguments, unless a pod says others.
    pub command: Vec<String>,
    /// Annotations of the manifest, which are also the labels of the config.
    pub annotations: Vec<(String, String)>,
    /// The files, lowest layer first.
    pub layers: Vec<Layer>,
}

/// Digest and size of a blob, as a descriptor needs them.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: hex(&Sha256::digest(&bytes)), bytes }
    }

    fn json(value: &Value) -> Self {
        Self::new(value.to_string().into_bytes())
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len() })
    }
}

impl Image {
    /// Writes the archive. There are no times in it: all are 1970, so that the same binaries give the same digest.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let layers = self.layers.iter().map(layer).collect::<io::Result<Vec<_>>>()?;
        let labels: Value =
            self.annotations.iter().map(|(k, v)| (k.clone(), Value::from(v.clone()))).collect();
        let config = Blob::json(&json!({
            "architecture": "amd64", "os": "linux",
            "config": { "Entrypoint": self.entrypoint, "Cmd": self.command, "Labels": labels },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|l| format!("sha256:{}", l.digest)).collect::<Vec<_>>(),
            },
        }));
        let manifest = Blob::json(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": layers.iter().map(|l| l.descriptor("application/vnd.oci.image.layer.v1.tar")).collect::<Vec<_>>(),
            "annotations": labels,
        }));
        let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
        entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
        entry["annotations"] = json!({
            // The first is containerd's, the second the specification's.
            "io.containerd.image.name": self.name,
            "org.opencontainers.image.ref.name": self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag),
        });
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry],
        });
        tar_file(out, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        tar_file(out, "index.json", 0o644, index.to_string().as_bytes())?;
        for blob in layers.iter().chain([&config, &manifest]) {
            tar_file(out, &format!("blobs/sha256/{}", blob.digest), 0o644, &blob.bytes)?;
        }
        out.write_all(&TAR_END)
    }
}

fn layer(layer: &Layer) -> io::Result<Blob> {
    tar(layer).map(Blob::new)
}

/// A layer as it lies in an image: a tar with that one file.
pub fn tar(layer: &Layer) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(layer.content.len() + 4 * BLOCK);
    tar_file(&mut bytes, &layer.path, 0o755, &layer.content)?;
    bytes.extend(TAR_END);
    Ok(bytes)
}

const BLOCK: usize = 512;
/// Two empty blocks end a tar.
const TAR_END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// An entry of a tar in the ustar format (POSIX.1-1988). Nothing is checked: tests make layers that nobody should.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// 100 bytes at most.
    pub path: &'a str,
    /// The type: `0` a file, `1` a hard link, `2` a symbolic one, `x` a header that extends the next.
    pub kind: u8,
    /// Where a link leads, in 100 bytes at most.
    pub link: &'a str,
    /// The bytes of a file.
    pub content: &'a [u8],
}

/// A tar of entries that all may execute.
pub fn archive(entries: &[Entry<'_>]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entries.iter().try_for_each(|entry| tar_entry(&mut bytes, 0o755, entry))?;
    bytes.extend(TAR_END);
    Ok(bytes)
}

fn tar_file(out: &mut impl Write, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    tar_entry(out, mode, &Entry { path, kind: b'0', link: "", content })
}

fn tar_entry(out: &mut impl Write, mode: u32, entry: &Entry<'_>) -> io::Result<()> {
    let &Entry { path, kind, link, content } = entry;
    if let Some(long) = [path, link].into_iter().find(|name| name.len() > 100) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{long}: longer than ustar's 100 bytes"),
        ));
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", content.len()).as_bytes());
    put(136, b"00000000000");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&header)?;
    out.write_all(content)?;
    let padding = content.len().next_multiple_of(BLOCK) - content.len();
    out.write_all(&TAR_END[..padding])
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            name: "example.org/x:1".into(),
            layers: vec![Layer { path: "x".into(), content: vec![7; 700] }],
            ..Image::default()
        }
    }

    #[test]
    fn tar_reads_what_is_written_and_it_is_the_same_each_time() {
        let folder = std::env::temp_dir().join(format!("xtask-oci-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (mut a, mut b) = (Vec::new(), Vec::new());
        image().write(&mut a).unwrap();
        image().write(&mut b).unwrap();
        assert_eq!(a, b);
        std::fs::write(folder.join("image.tar"), &a).unwrap();
        let list =
            std::process::Command::new("tar").arg("tf").arg(folder.join("image.tar")).output().unwrap();
        assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
        assert_eq!(String::from_utf8_lossy(&list.stdout).lines().count(), 5);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
