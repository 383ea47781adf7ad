//! What is decided about volumes, and holds over restarts.

use locus::{Adopt, Retire, prelude::*};

use crate::support::{builder, open_with, open_without_inline, write};

#[tokio::test]
async fn what_lies_on_an_adopted_volume_is_removed_as_leftovers_when_that_was_said() {
    let temp = tempfile::tempdir().unwrap();
    let (theirs, ours) = (temp.path().join("theirs"), temp.path().join("ours"));
    let (locus, acme) = open_without_inline(&theirs).await;
    write(&locus, &acme, "theirs").await;
    locus.shutdown().await.unwrap();

    let (locus, acme) = open_with(builder(&ours).inline_content_max(0)).await;
    let file = write(&locus, &acme, "ours").await;
    let spec = || LocalVolume::new("vol-002", theirs.join("vol-001"));
    for refused in [spec(), spec().adopt(Adopt::Empty)] {
        let error = locus.pool().mount(refused).await.unwrap_err();
        assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
    }
    locus.pool().mount(spec().adopt(Adopt::RemoveUnknown)).await.unwrap();
    let swept = locus.cleanup().leftovers().await.unwrap();
    assert_eq!(swept.orphans_removed, 1, "{swept:?}");
    assert_eq!(locus.pool().read(&acme, &file).await.unwrap().bytes().await.unwrap(), "ours");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b77_a_store_is_not_opened_with_a_retired_volume_until_it_is_unretired_without_it() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, id) = (temp.path(), VolumeId::parse("vol-001").unwrap());
    let (locus, acme) = open_without_inline(dir).await;
    let key = write(&locus, &acme, "waits").await;
    locus.pool().retire(&id, Retire::Keep).await.unwrap();
    locus.shutdown().await.unwrap();
    let refused = builder(dir).build().await.unwrap_err();
    assert!(matches!(&refused, Error::VolumeUnavailable { volume: Some(volume), .. } if *volume == id));
    assert!(refused.to_string().contains("was retired"), "{refused}");

    let without = Locus::builder().data_dir(dir.join("data")).build().await.unwrap();
    assert_eq!(without.pool().retired(), std::slice::from_ref(&id));
    without.pool().unretire(&id).await.unwrap();
    without.shutdown().await.unwrap();
    let (locus, acme) = open_without_inline(dir).await;
    assert_eq!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap(), "waits");
    locus.shutdown().await.unwrap();
}
