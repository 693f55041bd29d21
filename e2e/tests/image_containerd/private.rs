//! Private images whose manifests the mirror gives to whom their registry would: the sidecar's own relay, and real runtimes.

use std::sync::Arc;

use anyhow::Result;
use crds::OriginRules;
use e2e::runtime::log::{self, all_but};
use e2e::runtime::registry::{Answer, LOGIN};
use e2e::runtime::shelf::Shelf;
use e2e::runtime::suite::World;
use mirror::Access;
use sidecar::ClassInfo;
use sidecar::images::Relay;
use tokio::sync::watch;

use crate::refused;

/// What containerd asks of the mirror alone.
const MANIFEST: &str = "mirror GET 200 with a token";

/// Our mirror with the image, and our relay beside it.
async fn shelf(world: &World) -> Result<Shelf> {
    let origin = OriginRules { allow: vec!["127.0.0.0/8".into()], ..OriginRules::default() };
    let class = ClassInfo { origin, ..ClassInfo::default() };
    // A channel without a sender keeps its last value.
    let (_, class) = watch::channel(Some(Arc::new(class)));
    let shelf = Shelf::relaying(&world.log, Arc::new(Relay::new(class, Vec::new()))).await?;
    shelf.add(&world.image, Access::Relay)?;
    world.use_mirror()?;
    Ok(shelf)
}

async fn pull(world: &World) -> Result<String> {
    Ok(world.containerd.runtime.pull_as(&world.image.reference(), LOGIN).await?)
}

/// What containerd asks until it has the manifests. It has an authorizer for the tag and one for the rest, so it goes for two tokens; first as
/// OAuth 2 would have it. Our relay asks upstream once for each manifest whether it takes the token, and once what it asks for, which is not
/// written down.
const LET_IN: [(&str, &str); 4] = [
    ("tag", "mirror HEAD 401, mirror HEAD 200 with a token"),
    ("index", "upstream HEAD 200 with a token, mirror GET 401, mirror GET 200 with a token"),
    ("manifest", "upstream HEAD 200 with a token, mirror GET 200 with a token"),
    (
        "token",
        "upstream POST 405, upstream GET 200 with a password, upstream POST 405, upstream GET 200 with a password",
    ),
];

pub async fn with_a_login(world: &World) -> Result<()> {
    let _shelf = shelf(world).await?;
    world.upstream.need_login();
    pull(world).await?;
    world.log.expect(&all_but(MANIFEST, &LET_IN))?;
    // A pod with the policy `Always`: what it stands for, and nothing else.
    world.log.clear();
    pull(world).await?;
    world.log.expect(&AGAIN)
}

/// A second pull of what is there, right after the first.
const AGAIN: [(&str, &str); 2] = [
    ("tag", "mirror HEAD 401, mirror HEAD 200 with a token"),
    ("token", "upstream POST 405, upstream GET 200 with a password"),
];

pub async fn without_a_login(world: &World) -> Result<()> {
    let _shelf = shelf(world).await?;
    world.upstream.need_login();
    refused(world.pull().await)?;
    // The second is of upstream itself, which is asked when the mirror was of no use.
    world.log.expect(&[("tag", "mirror HEAD 401"), ("token", "upstream GET 401, upstream GET 401")])
}

pub async fn passwords(world: &World) -> Result<()> {
    let _shelf = shelf(world).await?;
    world.upstream.challenge("Basic realm=\"r\"");
    pull(world).await?;
    let manifest = "mirror GET 404, upstream GET 200 with a password";
    world.log.expect(&all_but(
        log::MIRROR,
        &[
            ("tag", "mirror HEAD 404, upstream HEAD 200 with a password"),
            ("index", manifest),
            ("manifest", manifest),
        ],
    ))
}

pub async fn away(world: &World) -> Result<()> {
    let _shelf = shelf(world).await?;
    world.upstream.need_login();
    pull(world).await?;
    world.log.clear();
    // Its token server is there: who shows what was not seen yet has to wait for the registry.
    world.upstream.default(Answer::Status(503));
    pull(world).await?;
    world.log.expect(&AGAIN)
}

pub async fn led_astray(world: &World) -> Result<()> {
    let _shelf = shelf(world).await?;
    world.upstream.challenge("Bearer realm=\"http://127.0.0.2:5000/token\",service=\"s\"");
    refused(pull(world).await)?;
    world.log.expect(&[("tag", "mirror HEAD 404")])
}
