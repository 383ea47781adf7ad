//! What every [`Intake`] must do. Give each case one with the enabled tenants `acme` and `globex`, and nothing in it.

use std::sync::Arc;

use locus_core::{Content, Error, Incoming, Intake, LogicalDir, Result, TenantId};

fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).expect("because it is one")
}

fn file(of: &str, text: &str, identity: &str) -> Incoming {
    Incoming {
        tenant: tenant(of),
        content: Content::from(text),
        original_name: "a.txt".into(),
        directory: LogicalDir::root(),
        identity: identity.into(),
    }
}

/// A source is taken in once, by its name and its tenant, until it is forgotten.
///
/// # Errors
/// What the intake says.
///
/// # Panics
/// When it is not so.
pub async fn a_source_is_taken_in_once(intake: Arc<dyn Intake>) -> Result<()> {
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    assert!(!intake.is_known(&acme, "one").await?);
    let first = intake.bring_in(file("acme", "hello", "one")).await?;
    intake.sync().await?;
    assert!(intake.is_known(&acme, "one").await?);
    assert!(!intake.is_known(&globex, "one").await?);
    assert!(!intake.is_known(&acme, "two").await?);
    assert_eq!(intake.bring_in(file("acme", "hello", "one")).await?, first);

    intake.forget(&globex, "one").await?; // not known there
    assert!(intake.is_known(&acme, "one").await?);
    intake.forget(&acme, "one").await?;
    intake.forget(&acme, "one").await?;
    assert!(!intake.is_known(&acme, "one").await?);
    assert_ne!(intake.bring_in(file("acme", "hello", "one")).await?, first);
    Ok(())
}

/// Content that ends in an error leaves nothing behind.
///
/// # Errors
/// What the intake says.
///
/// # Panics
/// When it is not so.
pub async fn content_that_fails_is_not_taken_in(intake: Arc<dyn Intake>) -> Result<()> {
    for length in [10, 200_000] {
        let source = tempfile::tempfile().expect("because there is room for an empty file");
        source.set_len(length).expect("because there is room for an empty file");
        let content = Content::checked(source, |_| Err(std::io::Error::other("changed")));
        let refused = intake.bring_in(Incoming { content, ..file("acme", "", "one") }).await;
        assert!(matches!(refused, Err(Error::Source { .. })), "{refused:?}");
    }
    assert!(!intake.is_known(&tenant("acme"), "one").await?);
    Ok(())
}

/// Only tenants that are there take files.
///
/// # Errors
/// What the intake says.
///
/// # Panics
/// When it is not so.
pub async fn only_tenants_take_files(intake: Arc<dyn Intake>) -> Result<()> {
    assert_eq!(intake.enabled_tenants().await?, [tenant("acme"), tenant("globex")]);
    intake.check_tenant(&tenant("acme"))?;
    let unknown = intake.check_tenant(&tenant("nobody"));
    assert!(matches!(unknown, Err(Error::TenantNotFound { .. })), "{unknown:?}");
    let refused = intake.bring_in(file("nobody", "x", "one")).await;
    assert!(matches!(refused, Err(Error::TenantNotFound { .. })), "{refused:?}");
    assert!(!intake.is_known(&tenant("nobody"), "one").await?);
    Ok(())
}
