//! What a real containerd makes of a mirror: each row of the table in docs/images.md, our mirror under it, and our hosts files, leases, pins
//! and canary.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[path = "image_containerd/bad_layers.rs"]
mod bad_layers;
#[allow(dead_code, clippy::cast_possible_wrap, reason = "of the sidecar's tests, which use all of it")]
#[path = "../../sidecar/tests/flow/cluster.rs"]
mod cluster;
#[path = "image_containerd/layers.rs"]
mod layers;
#[path = "../../sidecar/tests/flow/operator.rs"]
mod operator;
#[path = "image_containerd/private.rs"]
mod private;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::real::skip;
use e2e::runtime::containerd::{Containerd, Settings, Version};
use e2e::runtime::image::Image;
use e2e::runtime::log::{self, all_but};
use e2e::runtime::registry::{Answer, Registry};
use e2e::runtime::shelf::Shelf;
use e2e::runtime::suite::{Suite, World};
use e2e::runtime::{MIRROR, UPSTREAM};
use e2e::suite::eventually;
use futures::StreamExt as _;
use futures::future::FutureExt as _;
use mirror::{Access, canary_reference};
use runtime::discovery::{Mounted, Place, discover};
use runtime::hosts::Outcome;
use runtime::{Canary, Error, ImageEvent};
use xtask::tools::Tools;

/// How long our mirror waits for a byte here.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long something may take that happens by itself.
const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let list = Settings { config_path: "{}/certs.d:{}/docker", ..Settings::default() };
    let discarding = Settings { discard_unpacked_layers: true, ..Settings::default() };
    let parallel = Settings { parallel_fetch: 200_000, only: Some("2.2"), ..Settings::default() };
    let parallel_too = parallel.clone();
    let discarding_too = discarding.clone();
    Suite::default()
        .scenario("an image that the mirror has comes from the mirror alone", |w| all_here(w).boxed())
        .scenario("an image that it does not have comes from upstream, one 404 each", |w| {
            nothing_here(w).boxed()
        })
        .scenario("a blob that it does not have comes from upstream, the others do not", |w| {
            one_missing(w).boxed()
        })
        .scenario("with upstream's manifests only the blobs come from the mirror", |w| blobs_only(w).boxed())
        .scenario("the mirror is not shown upstream's token", |w| token(w).boxed())
        .scenario("who gets no manifest upstream gets no blob from the mirror", |w| unauthorised(w).boxed())
        .scenario("with relay a token that upstream gave opens the mirror, which sees no password", |w| {
            private::with_a_login(w).boxed()
        })
        .scenario("with relay who has no token gets nothing from anybody", |w| {
            private::without_a_login(w).boxed()
        })
        .scenario("with relay and an upstream that wants passwords manifests come from there", |w| {
            private::passwords(w).boxed()
        })
        .scenario(
            "with relay and an upstream that is away the mirror gives to whom it has just let in",
            |w| private::away(w).boxed(),
        )
        .scenario("t094 with relay a challenge that leads elsewhere is not passed on", |w| {
            private::led_astray(w).boxed()
        })
        .scenario("503 to everything sends every object upstream", |w| busy(w).boxed())
        .scenario("a dead mirror sends every object upstream", |w| dead(w).boxed())
        .scenario("a stalled blob goes on upstream at the same byte", |w| stalled(w).boxed())
        .scenario("a blob that arrives while it is read comes from the mirror alone", |w| arriving(w).boxed())
        .scenario("a body that ends early is resumed at the mirror", |w| closed(w).boxed())
        .scenario("a reset in a blob fails the pull", |w| reset(w).boxed())
        .scenario("a wrong bit fails the pull and nobody else is asked", |w| flipped(w).boxed())
        .scenario("a silent mirror is waited for", |w| silent(w).boxed())
        .scenario("a mirror that ignores ranges is read from the start", |w| ignores_range(w).boxed())
        .scenario_with("layers in parallel ranges come from the mirror alone", parallel, |w| {
            parallel_here(w).boxed()
        })
        .scenario_with("a stalled blob in parallel ranges goes on upstream", parallel_too, |w| {
            parallel_stalled(w).boxed()
        })
        .scenario("a tag that has moved is another image", |w| moved_tag(w).boxed())
        .scenario("the canary sings with the hosts files and not without", |w| canary(w).boxed())
        .scenario("a registry with a hosts file of its own gets the mirror first, and all back", |w| {
            own_folder(w).boxed()
        })
        .scenario_with("a list of places is used, and its literal reading too", list, |w| {
            colon_list(w).boxed()
        })
        .scenario_with("a lease made before the pull keeps discarded layers until it goes", discarding, |w| {
            lease(w).boxed()
        })
        .scenario("t098 leases are an owner's own, and one that is made again is the same", |w| {
            owners(w).boxed()
        })
        .scenario("t099 a pin stays until the next pull", |w| pin(w).boxed())
        .scenario("layers lie on the disk once, and are the runtime's to remove", |w| layers::once(w).boxed())
        .scenario_with("layers lie on the disk once where they are discarded", discarding_too, |w| {
            layers::once_though_discarded(w).boxed()
        })
        .scenario("blobs lie on the disk once while the kubelet's image is there", |w| {
            layers::blobs_follow_the_kubelet(w).boxed()
        })
        .scenario(
            "t096 a layer that wants out of the image is refused or kept inside, by the runtime alone",
            |w| bad_layers::refused_or_kept_inside(w).boxed(),
        )
        .scenario("images are listed, counted and removed", |w| listing(w).boxed())
        .scenario("its configuration says where it looks", |w| configuration(w).boxed())
        .scenario("t101 a runtime that restarts is found again", |w| restart(w).boxed())
        .run("image_containerd", versions)
}

/// With this in the environment, versions take part that behave as others do: each takes minutes to build.
const ALL: &str = "SAMARA_CONTAINERD_ALL";

fn versions() -> Result<Vec<Version>> {
    let of = |name, program, config, local_pull| Version { name, program, config, local_pull };
    let mut versions = vec![of("1.6", PathBuf::from("containerd"), 2, None)];
    if !Tools::can_build() {
        skip("newer versions of containerd", "no Go to build them: https://go.dev/dl, 1.24 or later")?;
        return Ok(versions);
    }
    if std::env::var_os(ALL).is_some() {
        versions.push(of("1.7", Tools::build_containerd("1.7")?, 2, None));
        versions.push(of("2.0", Tools::build_containerd("2.0")?, 3, None));
        versions.push(of("2.1", Tools::build_containerd("2.1")?, 3, Some(false)));
        versions.push(of("2.3", Tools::build_containerd("2.3")?, 3, Some(false)));
    }
    let newer = Tools::build_containerd("2.2")?;
    versions.push(of("2.2", newer.clone(), 3, Some(false)));
    versions.push(of("2.2 pulling locally", newer, 3, Some(true)));
    Ok(versions)
}

async fn shelf(world: &World, access: Access) -> Result<Shelf> {
    let shelf = Shelf::start(&world.log, PATIENCE).await?;
    shelf.add(&world.image, access)?;
    world.use_mirror()?;
    Ok(shelf)
}

/// A mirror that does as it is told.
async fn scripted(world: &World) -> Result<Registry> {
    let mirror = Registry::start("mirror", MIRROR, &world.log).await?;
    mirror.add(&world.image);
    world.use_mirror()?;
    Ok(mirror)
}

async fn all_here(world: &World) -> Result<()> {
    let _shelf = shelf(world, Access::Node).await?;
    world.pull().await?;
    world.log.expect(&all_but(log::MIRROR, &[]))
}

async fn nothing_here(world: &World) -> Result<()> {
    let shelf = Shelf::start(&world.log, PATIENCE).await?;
    world.use_mirror()?;
    let other = Image::new("other", 2)?;
    shelf.add(&other, Access::Node)?;
    world.pull().await?;
    let paths = world.image.paths();
    let found = world.log.by_object();
    for (path, (name, _)) in paths {
        let method = if name == "tag" { "HEAD" } else { "GET" };
        // The mirror does not know what the path is called.
        ensure!(found[&path] == [format!("mirror {method} 404")], "{path}: {found:#?}");
        ensure!(found[&name] == [format!("upstream {method} 200")], "{name}: {found:#?}");
    }
    Ok(())
}

async fn one_missing(world: &World) -> Result<()> {
    let shelf = shelf(world, Access::Node).await?;
    shelf.remove(&world.image.object("layer1").digest());
    world.pull().await?;
    world.log.expect(&all_but(log::MIRROR, &[("layer1", "mirror GET 404, upstream GET 200")]))
}

async fn blobs_only(world: &World) -> Result<()> {
    let _shelf = shelf(world, Access::UpstreamManifests).await?;
    world.pull().await?;
    world.log.expect(&all_but(
        log::MIRROR,
        &[
            ("tag", "mirror HEAD 404, upstream HEAD 200"),
            ("index", "mirror GET 404, upstream GET 200"),
            ("manifest", "mirror GET 404, upstream GET 200"),
        ],
    ))
}

async fn token(world: &World) -> Result<()> {
    let _shelf = shelf(world, Access::UpstreamManifests).await?;
    world.upstream.need_token();
    world.pull().await?;
    let manifest = "mirror GET 404, upstream GET 200 with a token";
    world.log.expect(&all_but(
        log::MIRROR,
        &[
            ("tag", "mirror HEAD 404, upstream HEAD 200 with a token"),
            ("index", manifest),
            ("manifest", manifest),
        ],
    ))
}

async fn unauthorised(world: &World) -> Result<()> {
    let _shelf = shelf(world, Access::UpstreamManifests).await?;
    world.upstream.default(Answer::Status(403));
    refused(world.pull().await)?;
    let asked = world.log.by_object();
    ensure!(asked.keys().all(|object| object == "tag" || object == "index"), "{asked:#?}");
    Ok(())
}

async fn busy(world: &World) -> Result<()> {
    let mirror = scripted(world).await?;
    mirror.default(Answer::Status(503));
    world.pull().await?;
    let both = "mirror GET 503, upstream GET 200";
    world.log.expect(&all_but(both, &[("tag", "mirror HEAD 503, upstream HEAD 200")]))
}

async fn dead(world: &World) -> Result<()> {
    world.use_mirror()?;
    world.pull().await?;
    world.log.expect(&all_but("upstream GET 200", &[]))
}

async fn stalled(world: &World) -> Result<()> {
    let shelf = shelf(world, Access::Node).await?;
    shelf.grow(&world.image.object("layer1").bytes, 500_000);
    world.pull().await?;
    let resumed = "mirror GET 200, mirror GET bytes=500000- 404, upstream GET bytes=500000- 206";
    world.log.expect(&all_but(log::MIRROR, &[("layer1", resumed)]))
}

async fn arriving(world: &World) -> Result<()> {
    let shelf = shelf(world, Access::Node).await?;
    let bytes = &world.image.object("layer1").bytes;
    let partial = shelf.grow(bytes, 0);
    let length = bytes.len() as u64;
    let arriving = async {
        for step in 1..=10 {
            tokio::time::sleep(PATIENCE / 5).await;
            partial.arrive(length * step / 10);
        }
        Ok(())
    };
    tokio::try_join!(world.pull(), arriving)?;
    world.log.expect(&all_but(log::MIRROR, &[]))
}

async fn closed(world: &World) -> Result<()> {
    let mirror = scripted(world).await?;
    mirror.whole("layer1", Answer::CloseAfter(500_000));
    world.pull().await?;
    world.log.expect(&all_but(log::MIRROR, &[("layer1", "mirror GET 200, mirror GET bytes=500000- 206")]))
}

async fn reset(world: &World) -> Result<()> {
    let mirror = scripted(world).await?;
    mirror.whole("layer1", Answer::ResetAfter(500_000));
    let error = refused(world.pull().await)?;
    ensure!(error.contains("connection reset"), "{error}");
    Ok(())
}

async fn flipped(world: &World) -> Result<()> {
    let mirror = scripted(world).await?;
    mirror.whole("layer1", Answer::FlipBit);
    let error = refused(world.pull().await)?;
    ensure!(error.contains("unexpected commit digest"), "{error}");
    let asked = world.log.by_object()["layer1"].clone();
    ensure!(asked.iter().all(|request| request.starts_with("mirror")), "{asked:?}");
    Ok(())
}

/// The message of a pull that has failed.
fn refused(pulled: Result<String>) -> Result<String> {
    match pulled {
        Ok(_) => bail!("the pull has not failed"),
        Err(error) => Ok(format!("{error:#}")),
    }
}

async fn silent(world: &World) -> Result<()> {
    let mirror = scripted(world).await?;
    mirror.whole("layer1", Answer::Late(Duration::from_secs(5)));
    world.pull().await?;
    world.log.expect(&all_but(log::MIRROR, &[]))
}

async fn ignores_range(world: &World) -> Result<()> {
    let mirror = scripted(world).await?;
    mirror.whole("layer1", Answer::CloseAfter(500_000));
    mirror.range("layer1", Answer::IgnoreRange);
    world.pull().await?;
    world.log.expect(&all_but(log::MIRROR, &[("layer1", "mirror GET 200, mirror GET bytes=500000- 200")]))
}

/// The offsets of the ranges in which layers are asked for, whole lists in any order.
fn ranges(world: &World, layer: &str, role: &str) -> Vec<String> {
    let requests = world.log.by_object().remove(layer).unwrap_or_default();
    let mut ranges: Vec<_> = requests.into_iter().filter(|request| request.starts_with(role)).collect();
    ranges.sort();
    ranges
}

async fn parallel_here(world: &World) -> Result<()> {
    let _shelf = shelf(world, Access::Node).await?;
    world.pull().await?;
    for layer in ["layer0", "layer1", "layer2"] {
        let mut expected = ["0", "200000", "400000", "600000", "800000", "1000000"]
            .map(|from| format!("mirror GET bytes={from}- 206"));
        expected.sort();
        ensure!(ranges(world, layer, "mirror") == expected, "{:#?}", world.log.by_object());
        ensure!(ranges(world, layer, "upstream").is_empty(), "{:#?}", world.log.by_object());
    }
    Ok(())
}

/// Twice: what is remembered of the first pull's stalls must not turn into a 404 for a range in the middle of the second one, which
/// containerd does not get over.
async fn parallel_stalled(world: &World) -> Result<()> {
    let shelf = shelf(world, Access::Node).await?;
    // Slow enough for the first ranges to be under way when the last ones end.
    shelf.grow_slowly(&world.image.object("layer1").bytes, 500_000, PATIENCE / 5);
    let runtime = &world.containerd.runtime;
    for _ in 0..2 {
        world.log.clear();
        world.pull().await?;
        let upstream = ["500000", "700000", "900000"].map(|from| format!("upstream GET bytes={from}- 206"));
        ensure!(ranges(world, "layer1", "upstream") == upstream, "{:#?}", world.log.by_object());
        let refused = ranges(world, "layer1", "mirror GET bytes=500000-");
        ensure!(refused == ["mirror GET bytes=500000- 404"], "{:#?}", world.log.by_object());
        runtime.remove_image(&world.image.reference()).await?;
        eventually("the layers go", SOON, || async { Ok(runtime.contents().await?.is_empty()) }).await?;
        // As long as the kubelet waits at least before it tries again, for this mirror's patience.
        tokio::time::sleep(PATIENCE).await;
    }
    Ok(())
}

async fn moved_tag(world: &World) -> Result<()> {
    let wanted = Image::new("app", 7)?.digest();
    let pulled = world.containerd.runtime.pull(&world.image.reference(), &wanted).await;
    match pulled {
        Err(Error::OtherDigest { found, .. }) => {
            ensure!(found.contains(&world.image.digest()), "{found}");
            Ok(())
        }
        other => bail!("{other:?}"),
    }
}

async fn canary(world: &World) -> Result<()> {
    let shelf = Shelf::start(&world.log, PATIENCE).await?;
    let runtime = &world.containerd.runtime;
    shelf.mirror.canary().arm("n1");
    let silent = runtime.canary(&canary_reference("n1")).await?;
    ensure!(matches!(silent, Canary::Silent(_)), "without hosts files: {silent:?}");
    world.use_mirror()?;
    for nonce in ["n2", "n3"] {
        shelf.mirror.canary().arm(nonce);
        let sings = runtime.canary(&canary_reference(nonce)).await?;
        ensure!(matches!(sings, Canary::Sings), "{sings:?}");
        ensure!(runtime.image(&canary_reference(nonce)).await?.is_none(), "it is removed again");
    }
    world.hosts().undo();
    shelf.mirror.canary().arm("n4");
    let silent = runtime.canary(&canary_reference("n4")).await?;
    ensure!(matches!(silent, Canary::Silent(_)), "after the undo: {silent:?}");
    Ok(())
}

async fn own_folder(world: &World) -> Result<()> {
    let folder = Path::new(&world.containerd.config_path).join(format!("127.0.0.1_{UPSTREAM}_"));
    std::fs::create_dir_all(&folder)?;
    let text = format!(
        "server = \"http://127.0.0.1:{UPSTREAM}\"\n# theirs\n[host.\"http://127.0.0.1:{UPSTREAM}\"]\n"
    );
    std::fs::write(folder.join("hosts.toml"), &text)?;
    let _shelf = shelf(world, Access::Node).await?;
    world.pull().await?;
    world.log.expect(&all_but(log::MIRROR, &[]))?;
    world.log.clear();
    world.hosts().undo();
    ensure!(std::fs::read_to_string(folder.join("hosts.toml"))? == text);
    let other = Image::new("other", 2)?;
    world.upstream.add(&other);
    world.containerd.runtime.pull(&other.reference(), &other.digest()).await?;
    world.log.expect(&all_but("upstream GET 200", &[]))
}

async fn colon_list(world: &World) -> Result<()> {
    let shelf = shelf(world, Access::Node).await?;
    shelf.mirror.canary().arm("n1");
    let sings = world.containerd.runtime.canary(&canary_reference("n1")).await?;
    ensure!(matches!(sings, Canary::Sings), "{sings:?}");
    world.log.clear();
    world.pull().await?;
    world.log.expect(&all_but(log::MIRROR, &[]))?;
    let failed =
        world.hosts().undo().into_iter().filter(|report| matches!(report.outcome, Outcome::Failed(_)));
    ensure!(failed.count() == 0);
    ensure!(!Path::new(&world.containerd.config_path).exists(), "the literal path is gone");
    Ok(())
}

async fn lease(world: &World) -> Result<()> {
    let runtime = &world.containerd.runtime;
    let other = Image::new("other", 2)?;
    world.upstream.add(&other);
    runtime.lease("default", "rev-1", &world.image.layers()).await?;
    world.pull().await?;
    runtime.pull(&other.reference(), &other.digest()).await?;
    let there = |layers: Vec<String>| async move {
        let mut there = 0;
        for layer in &layers {
            there += usize::from(runtime.content(layer).await?.is_some());
        }
        anyhow::Ok(there)
    };
    eventually("layers without a lease go", SOON, || async { Ok(there(other.layers()).await? == 0) }).await?;
    let layers = world.image.layers();
    ensure!(there(layers.clone()).await? == layers.len(), "the leased ones stay");
    ensure!(runtime.leased_layers("rev-1").await?.len() == layers.len());
    let file = runtime::content_path(&world.folder.join("root"), &layers[0]).context("a digest")?;
    ensure!(std::fs::read(file)? == world.image.object("layer0").bytes, "the file is the compressed layer");
    runtime.release("rev-1").await?;
    ensure!(there(layers).await? == 0, "they are gone when the release returns");
    ensure!(runtime.image(&world.image.reference()).await?.is_some(), "the image is not");
    Ok(())
}

async fn owners(world: &World) -> Result<()> {
    let runtime = &world.containerd.runtime;
    let layers = world.image.layers();
    runtime.lease("a", "rev-1", &layers).await?;
    runtime.lease("a", "rev-1", &layers).await?;
    runtime.lease("a", "rev-2", &layers).await?;
    runtime.lease("b", "rev-3", &layers).await?;
    ensure!(runtime.leased("a").await? == ["rev-1", "rev-2"]);
    ensure!(runtime.release_all_but("a", &["rev-2".into()]).await? == ["rev-1"]);
    ensure!(runtime.leased("a").await? == ["rev-2"]);
    ensure!(runtime.leased("b").await? == ["rev-3"]);
    runtime.release("never-there").await?;
    ensure!(runtime.leased_layers("never-there").await?.is_empty());
    Ok(())
}

async fn pin(world: &World) -> Result<()> {
    let runtime = &world.containerd.runtime;
    let reference = world.image.reference();
    ensure!(runtime.pin(&reference).await.is_err_and(|error| error.is_not_found()));
    ensure!(!runtime.unpin(&reference).await?);
    world.pull().await?;
    ensure!(runtime.pin(&reference).await?);
    ensure!(!runtime.pin(&reference).await?, "it is pinned");
    is_pinned(world, true).await?;
    let mut events = Box::pin(runtime.image_events().await?);
    // When containerd begins to tell is not told, so there are pulls until one is.
    let pulling = async {
        loop {
            world.pull().await?;
            tokio::time::sleep(PATIENCE).await;
        }
    };
    let updated = ImageEvent::Updated(reference.clone());
    tokio::select! {
        told = next(&mut events, &updated) => told?,
        failed = pulling => return failed,
    }
    ensure!(runtime.pin(&reference).await?, "the pull has taken the pin off");
    ensure!(runtime.unpin(&reference).await?);
    is_pinned(world, false).await?;
    runtime.remove_image(&reference).await?;
    next(&mut events, &ImageEvent::Deleted(reference)).await
}

/// CRI hears of a label by an event, a moment later; that of 1.6 never.
async fn is_pinned(world: &World, wanted: bool) -> Result<()> {
    if world.version.name == "1.6" {
        return Ok(());
    }
    eventually("CRI to hear of the pin", SOON, || async {
        let image = world.containerd.runtime.image(&world.image.reference()).await?;
        Ok(image.context("an image")?.pinned == wanted)
    })
    .await
}

/// Waits for an event, and passes over others.
async fn next(
    events: &mut (impl futures::Stream<Item = Result<ImageEvent, Error>> + Unpin),
    wanted: &ImageEvent,
) -> Result<()> {
    let waiting = async {
        while let Some(event) = events.next().await {
            if event? == *wanted {
                return Ok(());
            }
        }
        bail!("the events have ended")
    };
    tokio::time::timeout(SOON, waiting).await.with_context(|| format!("no {wanted:?}"))?
}

async fn listing(world: &World) -> Result<()> {
    let runtime = &world.containerd.runtime;
    let version = runtime.version().await?;
    ensure!(
        version.name == "containerd"
            && version.version.contains(world.version.name.split(' ').next().unwrap()),
        "{version:?}"
    );
    ensure!(runtime.images().await?.is_empty());
    let id = world.pull().await?;
    let images = runtime.images().await?;
    ensure!(images.len() == 1 && images[0].id == id, "{images:?}");
    ensure!(images[0].tags == [world.image.reference()]);
    let digest = world.image.reference().replace(":v1", &format!("@{}", world.image.digest()));
    ensure!(images[0].digests == [digest], "{images:?}");
    ensure!(runtime.contents().await?.len() == world.image.objects().len());
    let layer = world.image.object("layer0");
    ensure!(runtime.content(&layer.digest().to_string()).await? == Some(layer.bytes.len() as u64));
    ensure!(!runtime.image_file_systems().await?.is_empty());
    ensure!(runtime.status().await?.not_ready.iter().any(|why| why.starts_with("NetworkReady")));
    runtime.remove_image(&world.image.reference()).await?;
    runtime.remove_image(&world.image.reference()).await?;
    ensure!(runtime.images().await?.is_empty());
    Ok(())
}

async fn configuration(world: &World) -> Result<()> {
    let config = world.containerd.config.to_str().context("UTF-8")?.to_owned().leak();
    let place = Place { name: "test", config, socket: "", root: None, variables: &[] };
    let found = discover(&Mounted("/".into()), &place)?;
    let version = world.containerd.runtime.version().await?.version;
    ensure!(found.config_path_of(&version) == Some(world.containerd.config_path.as_str()), "{found:?}");
    ensure!(found.root == world.folder.join("root") && !found.discard_unpacked_layers);
    Ok(())
}

async fn restart(world: &World) -> Result<()> {
    let folder = world.folder.join("second");
    std::fs::create_dir(&folder)?;
    let missing = runtime::Runtime::connect(&folder.join("containerd.sock")).await;
    ensure!(matches!(missing, Err(Error::Missing { .. })), "{missing:?}");
    let settings = Settings::default();
    let first = Containerd::start(&world.version, &folder, &settings).await?;
    let runtime = first.runtime.clone();
    drop(first);
    let gone = runtime.version().await;
    ensure!(matches!(gone, Err(Error::Unreachable { .. })), "{gone:?}");
    let _second = Containerd::start(&world.version, &folder, &settings).await?;
    runtime.version().await?;
    Ok(())
}
