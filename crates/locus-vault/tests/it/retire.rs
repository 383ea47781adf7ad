//! Keys that are given up, and what stands in the way of that.

use std::sync::Arc;

use locus_vault::{Expect, KeyId, KeyState, Keyring, RetireOptions, RewrapOptions, Vault, VaultError};

use crate::rig::{Rig, id};

struct Rotated {
    rig: Rig,
    vault: Vault,
    old: KeyId,
}

/// A vault with an entity and a deleted one, both sealed by the key that was active before.
fn rotated() -> Rotated {
    let rig = Rig::new(1);
    let ring = rig.make_keyring();
    let vault = rig.open_with(rig.options_with(Arc::clone(&ring))).unwrap();
    rig.run(async {
        vault.put(&id("db/there"), &1, Expect::Any).await.unwrap();
        vault.put(&id("db/gone"), &1, Expect::Any).await.unwrap();
        vault.delete(&id("db/gone"), Expect::Any).await.unwrap();
        vault.set_keyring(Arc::new(rig.keyring_file().rotate(&ring).await.unwrap()));
    });
    Rotated { rig, vault, old: ring.active().0 }
}

impl Rotated {
    fn retire(&self, key: KeyId, options: RetireOptions) -> Result<(), VaultError> {
        self.rig.run(self.vault.retire_key(&self.rig.keyring_file(), key, options))
    }

    fn rewrap(&self) {
        self.rig.run(self.vault.rewrap(RewrapOptions::default(), &mut |_| {})).unwrap();
    }
}

fn state(ring: &Keyring, key: KeyId) -> KeyState {
    ring.info().keys.iter().find(|info| info.id == key).unwrap().state
}

/// What a refusal said: entities that name the key, and files that cannot be read.
fn in_use(refused: Result<(), VaultError>) -> (u64, u64) {
    match refused {
        Err(VaultError::KeyInUse { entities, unreadable, .. }) => (entities, unreadable),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_is_retired_only_when_no_entity_names_it() {
    let it = rotated();
    let careless = RetireOptions::default().despite_unreadable(true);
    for options in [RetireOptions::default(), careless] {
        assert_eq!(in_use(it.retire(it.old, options)), (2, 0));
    }
    assert_eq!(state(&it.rig.open_keyring(), it.old), KeyState::DecryptOnly, "nothing was retired");
    let told = it.retire(it.old, careless).unwrap_err().to_string();
    assert!(told.ends_with("is still needed by 2 entities or contents"), "{told}");

    it.rewrap();
    it.retire(it.old, RetireOptions::default()).unwrap();
    for ring in [it.rig.open_keyring(), it.vault.keyring()] {
        assert_eq!(state(&ring, it.old), KeyState::Retired);
    }
    assert_eq!(it.rig.run(it.vault.get(&id("db/there"))).unwrap().bytes(), b"1");
    let again = it.retire(it.old, RetireOptions::default()).unwrap_err();
    assert!(matches!(again, VaultError::KeyRefused { .. }), "{again}");
    let active = it.retire(it.vault.keyring().active().0, RetireOptions::default()).unwrap_err();
    assert!(matches!(active, VaultError::KeyRefused { .. }), "{active}");
}

#[test]
fn a_file_that_cannot_be_read_stands_in_the_way_unless_it_is_said_not_to() {
    let it = rotated();
    it.rewrap();
    it.rig.forge(&it.rig.file("db+there"), b"nothing");
    let refused = it.retire(it.old, RetireOptions::default());
    assert!(
        refused.as_ref().is_err_and(|why| why.to_string().ends_with("by 1 that cannot be read")),
        "{refused:?}"
    );
    assert_eq!(in_use(refused), (0, 1));
    it.retire(it.old, RetireOptions::default().despite_unreadable(true)).unwrap();
    assert_eq!(state(&it.rig.open_keyring(), it.old), KeyState::Retired);
}

#[test]
fn a_vault_that_is_read_only_or_has_another_ring_retires_nothing() {
    let it = rotated();
    it.rewrap();
    let reader = it.rig.options_with(it.vault.keyring()).read_only(true);
    let reader = it.rig.open_with(reader).unwrap();
    let refused = it.rig.run(reader.retire_key(&it.rig.keyring_file(), it.old, RetireOptions::default()));
    assert!(matches!(refused, Err(VaultError::ReadOnly { .. })), "{refused:?}");
    it.vault.set_keyring(crate::rig::keyring(2));
    let refused = it.retire(it.old, RetireOptions::default());
    assert!(
        matches!(refused, Err(VaultError::NotARecipient { .. } | VaultError::Tampered { .. })),
        "{refused:?}"
    );
    assert_eq!(state(&it.rig.open_keyring(), it.old), KeyState::DecryptOnly);
}
