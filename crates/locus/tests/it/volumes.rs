//! What is decided about volumes, and holds over restarts.

use locus::{Adopt, prelude::*};

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
