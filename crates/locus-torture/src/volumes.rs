//! Volumes that are drained, and that go and come back.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    task::Poll,
};

use locus_core::{Error, MetadataStore, Result, VolumeId, VolumeStanding};
use locus_fs::{LocalVolume, MirroredVolume, VolumeSpec};
use locus_storage::DrainOptions;

use crate::world::Engine;

/// Rounds of the reaper beside a drain: nobody moves the clock that it would wait for at its end.
const REAPS_MAX: usize = 40;

/// The name of a volume.
pub(crate) fn id(volume: usize) -> VolumeId {
    VolumeId::parse(&format!("vol-{volume}")).expect("because it is a name")
}

/// How a volume is opened; the first one of a world may be a mirror.
pub(crate) fn spec(volume: usize, mirrored: Option<usize>) -> Box<dyn VolumeSpec> {
    let name = format!("vol-{volume}");
    let local = |suffix: &str| LocalVolume::new(format!("{name}{suffix}"), format!("/{name}{suffix}"));
    match mirrored.filter(|_| volume == 0) {
        None => Box::new(local("")),
        Some(quorum) => {
            let mirror = MirroredVolume::new(name.as_str()).quorum(quorum);
            Box::new(["-a", "-b"].into_iter().fold(mirror, |mirror, member| mirror.add_member(local(member))))
        }
    }
}

pub(crate) fn is_draining(engine: &Engine, volume: usize) -> bool {
    engine.store.standing_of(&id(volume)) == VolumeStanding::Draining
}

/// Drains, the reaper beside it, until the volume is empty or nothing more comes of it; then the drain is dropped, and what
/// it did made durable, as its end would have.
pub(crate) async fn drain(engine: &Engine, volume: usize) -> Result<()> {
    let id = id(volume);
    let drained = engine.pool.drain_with(&id, unthrottled(), |_| ());
    let is_done = || is_draining(engine, volume) && engine.store.files_on(&id) == 0;
    beside_the_reaper(engine, drained, is_done, || is_draining(engine, volume)).await
}

/// Gives the store its next key, and seals with it what is there, the reaper beside it, until all is sealed or nothing more comes
/// of it: a file that is leased is waited for.
pub(crate) async fn seal_anew(engine: &Engine) -> Result<()> {
    let Some(seals) = &engine.seals else { return Ok(()) };
    seals.sealer.set_keyring(seals.rings.next());
    let sealed = engine.pool.seal_all(unthrottled(), |_| ());
    match beside_the_reaper(engine, sealed, || false, || true).await {
        // What lies on the one volume that is left to drain has no place to be sealed to.
        Err(Error::VolumeUnavailable { volume: Some(id), .. })
            if engine.store.standing_of(&id) == VolumeStanding::Draining =>
        {
            engine.store.sync().await
        }
        sealed => sealed,
    }
}

fn unthrottled() -> DrainOptions {
    DrainOptions::new().bytes_per_second(None)
}

/// Moves files, the reaper beside it, until it comes to its end, is done but for the reaper, or has had rounds enough and may be
/// given up.
async fn beside_the_reaper<T>(
    engine: &Engine,
    moves: impl Future<Output = Result<T>>,
    is_done: impl Fn() -> bool,
    may_give_up: impl Fn() -> bool,
) -> Result<()> {
    let reaped = async {
        for _ in 0..REAPS_MAX {
            engine.sweeper.reap_step().await?;
            if is_done() {
                return Ok(());
            }
            give_way().await;
        }
        if may_give_up() { Ok(()) } else { pending().await }
    };
    let given_up = {
        let (mut moves, mut reaped) = (pin!(moves), pin!(reaped));
        poll_fn(|cx| match moves.as_mut().poll(cx) {
            Poll::Ready(moved) => Poll::Ready(moved.map(|_| false)),
            Poll::Pending => reaped.as_mut().poll(cx).map_ok(|()| true),
        })
        .await?
    };
    if given_up { engine.store.sync().await } else { Ok(()) }
}

/// Lets others go on first.
async fn give_way() {
    let mut gave = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Unmounts a volume and mounts it again. Says how many of its files could be read meanwhile.
pub(crate) async fn remount(engine: &Engine, volume: usize) -> Result<usize> {
    let id = id(volume);
    let mut there = Vec::new();
    let mut from = None;
    loop {
        let page = engine.store.resting_on(&id, from, 100);
        there.extend(page.files);
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    engine.pool.unmount(&id).await?;
    let mut read = 0;
    for (tenant, key) in there {
        let Some(context) = engine.tenants.iter().find(|context| *context.id() == tenant) else { continue };
        match engine.pool.read(context, &key).await {
            Err(Error::VolumeUnavailable { .. }) => {}
            Err(other) => return Err(other),
            Ok(_) => read += 1,
        }
    }
    engine.pool.mount_boxed(spec(volume, engine.mirrored)).await?;
    Ok(read)
}
