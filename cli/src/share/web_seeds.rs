//! Which web seeds to download from.

use clap::Args;
use torrent::Metainfo;

/// HTTP servers that have the files (BEP 19).
#[derive(Debug, Args)]
pub struct WebSeedArgs {
    /// HTTP server that has the files (BEP 19), besides those of the .torrent; may be given several times
    #[arg(long, value_name = "URL")]
    web_seed: Vec<String>,
    /// Do not download from the web seeds of the .torrent
    #[arg(long)]
    no_web_seeds: bool,
}

impl WebSeedArgs {
    /// The option that was given, if any was.
    pub fn given(&self) -> Option<&'static str> {
        let none = self.no_web_seeds.then_some("--no-web-seeds");
        none.or((!self.web_seed.is_empty()).then_some("--web-seed"))
    }

    /// Those of the torrent, unless they are not wanted, and those of the command line.
    pub fn urls(&self, metainfo: &Metainfo) -> Vec<String> {
        let named = if self.no_web_seeds { &[][..] } else { metainfo.web_seeds() };
        [named, &self.web_seed].concat()
    }
}
