//! Keyrings: who opens them, what a change leaves, and what a crash does.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use locus_core::{BoxError, Error};
use locus_fs::{Disk, OsDisk, read_bounded};
use locus_testkit::{Fault, ManualClock, OpKind, SeededEntropy, SimDisk};
use locus_vault::{
    Argon2Cost, ContentKey, DataKey, Identity, KeyId, KeyState, KeyWrap, Keyring, KeyringFile, NewRecipient,
    Passphrase, RecipientKey, RecipientKind, Result, Salt, Unlock, VaultError,
};
use rstest::rstest;
use zeroize::Zeroizing;

const PATH: &str = "/vault/keyring";
const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };

/// A disk with the directory of a vault, and a process that works there.
struct World {
    disk: Arc<SimDisk>,
    file: KeyringFile,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        disk.create_dir(Path::new("/vault")).expect("what the test stands on");
        disk.sync_dir(Path::new("/")).expect("what the test stands on");
        Self { file: Self::process(&disk, seed), disk }
    }

    /// Another process at the same disk.
    fn process(disk: &Arc<SimDisk>, seed: u64) -> KeyringFile {
        let entropy = Arc::new(SeededEntropy::new(seed ^ 0x5eed));
        KeyringFile::new(Arc::clone(disk) as Arc<dyn Disk>, ManualClock::new(), entropy, PATH)
    }

    fn bytes(&self) -> Vec<u8> {
        read_bounded(&*self.disk, Path::new(PATH), u64::MAX)
            .expect("what the test stands on")
            .expect("a keyring")
    }

    fn put(&self, bytes: &[u8]) {
        let file = self.disk.open(Path::new(PATH), true).expect("what the test stands on");
        file.set_len(0).expect("what the test stands on");
        file.write_at(bytes, 0).expect("what the test stands on");
    }
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(text.as_bytes()).expect("what the test stands on")
}

fn ali() -> NewRecipient {
    NewRecipient::passphrase("ali", passphrase("open sesame")).cost(CHEAP)
}

fn by(text: &str) -> Unlock {
    Unlock::Passphrase(passphrase(text))
}

fn sesame() -> Unlock {
    by("open sesame")
}

/// Whether both have the same key of this id.
fn same_key(one: &Keyring, other: &Keyring, id: KeyId) -> bool {
    let salt = Salt::from_bytes([1; 32]);
    let seal = |ring: &Keyring| {
        ContentKey::derive(ring.key(id).expect("what the test stands on"), &salt, b"").seal(b"test")
    };
    seal(one) == seal(other)
}

fn id_of(ring: &Keyring, name: &str) -> locus_vault::RecipientId {
    ring.info().recipients.iter().find(|recipient| recipient.name == name).expect("a recipient").id
}

/// A service that seals with a key of its own.
#[derive(Debug)]
struct Service {
    name: String,
    key: u8,
    fails: bool,
}

impl Service {
    fn new(name: &str, key: u8) -> Arc<Self> {
        Arc::new(Self { name: name.into(), key, fails: false })
    }

    fn key(&self) -> ContentKey {
        ContentKey::derive(&DataKey::from_bytes(&[self.key; 32]), &Salt::from_bytes([2; 32]), b"service")
    }
}

#[async_trait]
impl KeyWrap for Service {
    fn provider(&self) -> &str {
        &self.name
    }
    async fn wrap(&self, secret: &[u8]) -> Result<Vec<u8>, BoxError> {
        if self.fails { Err("no connection".into()) } else { Ok(self.key().seal(secret)) }
    }
    async fn unwrap(&self, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, BoxError> {
        if self.fails { Err("no connection".into()) } else { Ok(self.key().open(wrapped)?) }
    }
}

#[tokio::test]
async fn each_recipient_opens_the_same_keys_and_changes_need_none_of_the_others() {
    let world = World::new(1);
    let ring = world.file.create(ali()).await.unwrap();
    let (first, _) = ring.active();
    let identity = Identity::draw(&SeededEntropy::new(7));
    let service = Service::new("kms/test", 9);
    world.file.add_recipient(&ring, NewRecipient::public_key("backup", identity.recipient())).await.unwrap();
    world.file.add_recipient(&ring, NewRecipient::key_wrap("host", service.clone())).await.unwrap();
    let ring = world.file.rotate(&ring).await.unwrap();
    let (second, _) = ring.active();

    let for_ring = Identity::parse(&identity.to_text()).unwrap().for_ring(ring.info().id);
    for with in [sesame(), Unlock::Identity(identity), Unlock::Identity(for_ring), Unlock::KeyWrap(service)] {
        let opened = World::process(&world.disk, 2).open(with).await.unwrap();
        assert_eq!(opened.info(), ring.info());
        assert_eq!(opened.active().0, second);
        assert!(same_key(&opened, &ring, first) && same_key(&opened, &ring, second));
    }
    let info = world.file.inspect().await.unwrap();
    assert_eq!(info, ring.info());
    assert_eq!(info.generation, 4);
    assert_eq!(
        info.keys.iter().map(|key| key.state).collect::<Vec<_>>(),
        [KeyState::DecryptOnly, KeyState::Active]
    );
    let kinds: Vec<_> =
        info.recipients.into_iter().map(|recipient| (recipient.name, recipient.kind)).collect();
    let kms = RecipientKind::KeyWrap { provider: "kms/test".into() };
    let expected = [
        ("ali", RecipientKind::Passphrase { cost: CHEAP }),
        ("backup", RecipientKind::PublicKey),
        ("host", kms),
    ];
    assert_eq!(kinds, expected.map(|(name, kind)| (name.to_owned(), kind)));
}

#[tokio::test]
async fn who_is_no_recipient_opens_nothing() {
    let world = World::new(1);
    let none = world.file.open(sesame()).await.unwrap_err();
    assert!(matches!(none, VaultError::KeyringNotFound { .. }), "{none}");
    let ring = world.file.create(ali()).await.unwrap();
    world.file.add_recipient(&ring, NewRecipient::key_wrap("host", Service::new("kms", 9))).await.unwrap();
    let stranger = Unlock::Identity(Identity::draw(&SeededEntropy::new(8)));
    for with in [by("open sesamE"), by("open sesame "), stranger, Unlock::KeyWrap(Service::new("other", 9))] {
        let error = world.file.open(with).await.unwrap_err();
        assert!(matches!(error, VaultError::NotARecipient { .. }), "{error}");
    }
    let other_key = Unlock::KeyWrap(Service::new("kms", 8));
    let error = world.file.open(other_key).await.unwrap_err();
    assert!(matches!(&error, VaultError::KeyWrapFailed { provider, .. } if provider == "kms"), "{error}");
}

#[tokio::test]
async fn a_removed_recipient_opens_no_later_ring_and_the_keys_stay() {
    let world = World::new(1);
    let ring = world.file.create(ali()).await.unwrap();
    let (first, _) = ring.active();
    let thief = Identity::draw(&SeededEntropy::new(7));
    let text = thief.to_text();
    let thief = || Unlock::Identity(Identity::parse(&text).unwrap());
    let key = Identity::parse(&text).unwrap().recipient();
    let ring = world.file.add_recipient(&ring, NewRecipient::public_key("thief", key)).await.unwrap();
    let theirs = world.file.open(thief()).await.unwrap();

    let refused = world.file.remove_recipient(&theirs, theirs.opened_for()).await.unwrap_err();
    assert!(matches!(refused, VaultError::RecipientRefused { .. }), "{refused}");
    let id = id_of(&ring, "thief");
    let ring = world.file.remove_recipient(&ring, id).await.unwrap();
    assert_eq!(ring.active().0, first, "the ring alone is wrapped again");
    let error = world.file.open(thief()).await.unwrap_err();
    assert!(matches!(error, VaultError::NotARecipient { .. }), "{error}");
    let error = world.file.refresh(&theirs).await.unwrap_err();
    assert!(matches!(error, VaultError::NotARecipient { .. }), "{error}");
    let gone = world.file.remove_recipient(&ring, id).await.unwrap_err();
    assert!(matches!(gone, VaultError::RecipientNotFound { id: named } if named == id), "{gone}");
    assert!(same_key(&world.file.open(sesame()).await.unwrap(), &theirs, first));
}

#[tokio::test]
async fn each_writing_wraps_a_ring_key_that_was_never_used_before() {
    let world = World::new(1);
    let ring = world.file.create(ali()).await.unwrap();
    let one = world.bytes();
    world.file.rotate(&ring).await.unwrap();
    let other = world.bytes();
    // Salt, ephemeral key, wrapped key and sealed keys: nothing of 32 bytes stands in both files but what stays.
    let ends = |bytes: &[u8]| bytes[bytes.len() - 80..].to_vec();
    assert_ne!(ends(&one)[..32], ends(&other)[..32]);
    let stays = one.windows(32).filter(|window| other.windows(32).any(|theirs| theirs == *window)).count();
    assert!(stays < 200, "{stays} windows");
}

#[tokio::test]
async fn a_retired_key_is_gone_and_the_active_one_cannot_be_retired() {
    let world = World::new(1);
    let ring = world.file.create(ali()).await.unwrap();
    let (first, _) = ring.active();
    let refused = world.file.retire(&ring, first).await.unwrap_err();
    assert!(matches!(refused, VaultError::KeyRefused { id, .. } if id == first), "{refused}");
    let ring = world.file.rotate(&ring).await.unwrap();
    let ring = world.file.retire(&ring, first).await.unwrap();
    for ring in [&ring, &world.file.open(sesame()).await.unwrap()] {
        let error = ring.key(first).unwrap_err();
        assert!(matches!(error, VaultError::UnknownKey { id, retired: true } if id == first), "{error}");
        assert_eq!(ring.info().keys[0].state, KeyState::Retired);
        assert!(ring.key(ring.active().0).is_ok());
    }
    let again = world.file.retire(&ring, first).await.unwrap_err();
    assert!(matches!(again, VaultError::KeyRefused { .. }), "{again}");
    let stranger = KeyId::from_bytes([3; 16]);
    for error in [world.file.retire(&ring, stranger).await.unwrap_err(), ring.key(stranger).unwrap_err()] {
        assert!(matches!(error, VaultError::UnknownKey { id, retired: false } if id == stranger), "{error}");
    }
}

#[tokio::test]
async fn changes_of_two_processes_meet_in_the_file() {
    let world = World::new(1);
    let other = World::process(&world.disk, 2);
    let here = world.file.create(ali()).await.unwrap();
    let there = other.open(sesame()).await.unwrap();
    let here = world.file.rotate(&here).await.unwrap();
    let bob = NewRecipient::passphrase("bob", passphrase("abracadabra")).cost(CHEAP);
    let there = other.add_recipient(&there, bob).await.unwrap();
    assert_eq!(there.active().0, here.active().0);
    assert_eq!(there.info().generation, 3);
    assert_eq!(world.file.refresh(&here).await.unwrap().info(), there.info());
    assert_eq!(other.open(by("abracadabra")).await.unwrap().active().0, here.active().0);
}

#[tokio::test]
async fn a_change_while_another_is_made_is_refused_by_the_name_of_its_maker() {
    let world = World::new(1);
    let ring = world.file.create(ali()).await.unwrap();
    let lock = world.disk.lock(Path::new("/vault/keyring.lock")).unwrap();
    lock.file().write_at(b"process 7 on elsewhere", 0).unwrap();
    lock.file().set_len(22).unwrap();
    let error = world.file.rotate(&ring).await.unwrap_err();
    let VaultError::AlreadyLocked { path, holder } = &error else { panic!("{error}") };
    assert_eq!((path.as_path(), holder.as_str()), (Path::new(PATH), "process 7 on elsewhere"));
    assert_eq!(world.file.refresh(&ring).await.unwrap().info(), ring.info(), "reading takes no lock");
    drop(lock);
    world.file.rotate(&ring).await.unwrap();
}

#[tokio::test]
async fn an_older_ring_or_another_in_its_place_is_noticed_by_who_has_seen_it() {
    let world = World::new(1);
    let ring = world.file.create(ali()).await.unwrap();
    let old = world.bytes();
    let ring = world.file.rotate(&ring).await.unwrap();
    let new = world.bytes();
    let other = World::new(2);
    other.file.create(ali()).await.unwrap();
    for (bytes, older) in [(old, true), (other.bytes(), false)] {
        world.put(&bytes);
        for error in
            [world.file.refresh(&ring).await.unwrap_err(), world.file.rotate(&ring).await.unwrap_err()]
        {
            let told = if older {
                matches!(error, VaultError::Tampered { .. })
            } else {
                matches!(error, VaultError::NotARecipient { .. })
            };
            assert!(told, "{error}");
        }
        assert_eq!(world.bytes(), bytes, "nothing is written over it");
        assert!(world.file.open(sesame()).await.is_ok(), "who has seen nothing cannot know");
    }
    world.put(&new);
    assert_eq!(world.file.refresh(&ring).await.unwrap().info(), ring.info());
}

#[tokio::test]
async fn an_identity_that_is_told_its_ring_opens_no_other_that_is_made_for_it() {
    let identity = Identity::draw(&SeededEntropy::new(7));
    let text = identity.to_text();
    let again = || Identity::parse(&text).unwrap();
    let world = World::new(1);
    let ring = world.file.create(ali()).await.unwrap();
    let ring =
        world.file.add_recipient(&ring, NewRecipient::public_key("me", identity.recipient())).await.unwrap();
    let thief = World::new(2);
    let theirs =
        thief.file.create(NewRecipient::passphrase("thief", passphrase("x")).cost(CHEAP)).await.unwrap();
    thief.file.add_recipient(&theirs, NewRecipient::public_key("me", identity.recipient())).await.unwrap();

    world.file.open(Unlock::Identity(again().for_ring(ring.info().id))).await.unwrap();
    world.put(&thief.bytes());
    world.file.open(Unlock::Identity(again())).await.unwrap();
    let error = world.file.open(Unlock::Identity(again().for_ring(ring.info().id))).await.unwrap_err();
    assert!(matches!(error, VaultError::Tampered { .. }), "{error}");
}

#[tokio::test]
async fn recipients_that_cannot_be_are_refused_and_nothing_is_written() {
    let world = World::new(1);
    let first = NewRecipient::public_key("me", Identity::draw(&SeededEntropy::new(7)).recipient());
    let error = world.file.create(first).await.unwrap_err();
    assert!(matches!(error, VaultError::RecipientRefused { .. }), "{error}");
    let ring = world.file.create(ali()).await.unwrap();
    let before = world.bytes();
    let error = world.file.create(ali()).await.unwrap_err();
    assert!(matches!(error, VaultError::KeyringExists { .. }), "{error}");

    let key = ring.info().recipients[0].key;
    let nobody: RecipientKey = format!("locus-recipient:{}", "0".repeat(64)).parse().unwrap();
    let bob = |cost| NewRecipient::passphrase("bob", passphrase("x")).cost(cost);
    let long = Service::new(&"k".repeat(256), 1);
    for (new, why) in [
        (ali(), "has the name of another"),
        (NewRecipient::public_key("ali too", key), "has the key of another"),
        (NewRecipient::public_key("everybody", nobody), "shares the same secret"),
        (NewRecipient::public_key("", nobody), "has no name"),
        (NewRecipient::public_key("n".repeat(256), nobody), "more than 255"),
        (NewRecipient::public_key("a\nb", nobody), "control character"),
        (bob(Argon2Cost { memory_kib: 1 << 30, ..CHEAP }), "memory"),
        (bob(Argon2Cost { passes: 0, ..CHEAP }), "passes"),
        (NewRecipient::key_wrap("host", long), "1 to 255 bytes"),
    ] {
        let error = world.file.add_recipient(&ring, new).await.unwrap_err();
        assert!(
            matches!(error, VaultError::RecipientRefused { .. }) && error.to_string().contains(why),
            "{error}"
        );
    }
    let down = Arc::new(Service { name: "kms".into(), key: 1, fails: true });
    let error = world.file.add_recipient(&ring, NewRecipient::key_wrap("host", down)).await.unwrap_err();
    assert!(matches!(error, VaultError::KeyWrapFailed { .. }), "{error}");
    assert_eq!(world.bytes(), before);
}

#[tokio::test]
async fn a_ring_holds_64_recipients() {
    let world = World::new(1);
    let mut ring = world.file.create(ali()).await.unwrap();
    let random = SeededEntropy::new(7);
    let more = |n: usize| NewRecipient::public_key(n.to_string(), Identity::draw(&random).recipient());
    for n in 1..64 {
        ring = world.file.add_recipient(&ring, more(n)).await.unwrap();
    }
    let error = world.file.add_recipient(&ring, more(64)).await.unwrap_err();
    assert!(error.to_string().contains("one too many"), "{error}");
    assert_eq!(world.file.open(sesame()).await.unwrap().info().recipients.len(), 64);
}

#[tokio::test]
async fn a_damaged_truncated_or_newer_ring_is_told_by_its_name() {
    let world = World::new(1);
    world.file.create(ali()).await.unwrap();
    let good = world.bytes();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        for bytes in [&bad, &good[..at]] {
            world.put(bytes);
            let error = world.file.open(sesame()).await.unwrap_err();
            let VaultError::ReadFailed { path, source } = &error else { panic!("byte {at}: {error}") };
            assert!(error.to_string().contains(PATH) && path == Path::new(PATH));
            assert!(
                matches!(source, Error::Corrupt { .. } | Error::NewerFormat { .. }),
                "byte {at}: {source}"
            );
            assert!(world.file.inspect().await.is_err());
        }
    }
    let mut newer = good.clone();
    newer[8] = 2;
    world.put(&newer);
    let error = world.file.open(sesame()).await.unwrap_err();
    let newer = |source: &Error| matches!(source, Error::NewerFormat { found: 2, supported: 1, .. });
    assert!(matches!(&error, VaultError::ReadFailed { source, .. } if newer(source)), "{error}");
    world.put(&[good, vec![0; 3 << 20]].concat());
    let error = world.file.open(sesame()).await.unwrap_err();
    assert!(matches!(&error, VaultError::ReadFailed { source: Error::Corrupt { .. }, .. }), "{error}");
}

/// The changes of a ring that has a key to retire and a recipient to remove.
#[derive(Debug, Clone, Copy)]
enum Change {
    Create,
    Rotate,
    Retire,
    Add,
    Remove,
}

impl Change {
    async fn prepare(self, world: &World) -> Option<Keyring> {
        if let Change::Create = self {
            return None;
        }
        let ring = world.file.create(ali()).await.expect("what the test stands on");
        let bob = NewRecipient::passphrase("bob", passphrase("abracadabra")).cost(CHEAP);
        let ring = world.file.add_recipient(&ring, bob).await.expect("what the test stands on");
        Some(world.file.rotate(&ring).await.expect("what the test stands on"))
    }

    async fn make(self, file: &KeyringFile, ring: Option<&Keyring>) -> Result<Keyring> {
        let Some(ring) = ring else { return file.create(ali()).await };
        match self {
            Change::Create => unreachable!(),
            Change::Rotate => file.rotate(ring).await,
            Change::Retire => file.retire(ring, ring.info().keys[0].id).await,
            Change::Add => {
                let eve = NewRecipient::public_key("eve", Identity::draw(&SeededEntropy::new(5)).recipient());
                file.add_recipient(ring, eve).await
            }
            Change::Remove => file.remove_recipient(ring, id_of(ring, "bob")).await,
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_crash_at_any_operation_of_a_change_leaves_the_old_ring_or_the_new(
    #[values(Change::Create, Change::Rotate, Change::Retire, Change::Add, Change::Remove)] change: Change,
    #[values(true, false)] power: bool,
) {
    for seed in 0..4 {
        let (mut point, mut old, mut new) = (1, 0, 0);
        loop {
            let world = World::new(seed);
            let before = change.prepare(&world).await;
            world.disk.crash_at(world.disk.ops() + point);
            let made = change.make(&world.file, before.as_ref()).await;
            let reached = world.disk.is_down();
            if power {
                world.disk.crash();
            } else {
                world.disk.kill();
            }

            let next = World::process(&world.disk, seed + 1_000);
            let found = match next.open(sesame()).await {
                Ok(found) => Some(found),
                Err(VaultError::KeyringNotFound { .. }) => None,
                Err(error) => panic!("seed {seed}, operation {point}: {error}"),
            };
            let generation = |ring: &Option<Keyring>| ring.as_ref().map_or(0, |ring| ring.info().generation);
            let (was, is) = (generation(&before), generation(&found));
            assert!(is == was || is == was + 1, "seed {seed}, operation {point}: {was} became {is}");
            if is == was {
                old += 1;
            } else {
                new += 1;
            }
            if let Ok(made) = &made {
                assert_eq!(found.as_ref().unwrap().info(), made.info(), "seed {seed}, operation {point}");
            }
            // Whatever it was, nothing stands in the way of the next change.
            match &found {
                Some(found) => drop(next.rotate(found).await.unwrap()),
                None => drop(next.create(ali()).await.unwrap()),
            }
            if !reached {
                assert!(made.is_ok());
                break;
            }
            point += 1;
        }
        assert!(
            point > 8 && old > 0 && new > 0,
            "{point} operations, {old} times the old, {new} times the new"
        );
    }
}

#[rstest]
#[tokio::test]
async fn a_failing_operation_of_a_change_leaves_the_old_ring_or_the_new(
    #[values(Change::Create, Change::Rotate, Change::Retire, Change::Add, Change::Remove)] change: Change,
) {
    for point in 0.. {
        let world = World::new(3);
        let before = change.prepare(&world).await;
        let fault = world.disk.fail(Fault::io().after(point));
        let made = change.make(&world.file, before.as_ref()).await;
        let hit = world.disk.hits(fault) > 0;
        world.disk.heal_all();
        let found = world.file.open(sesame()).await.ok();
        let generation = |ring: Option<&Keyring>| ring.map_or(0, |ring| ring.info().generation);
        let (was, is) = (generation(before.as_ref()), generation(found.as_ref()));
        match made {
            Ok(made) => assert_eq!(found.unwrap().info(), made.info()),
            Err(VaultError::WriteFailed { source: Error::Io { op: "sync", path, .. }, .. })
                if path == Path::new("/vault") =>
            {
                assert_eq!(is, was + 1, "operation {point}");
            }
            Err(error) => assert_eq!(is, was, "operation {point}: {error}"),
        }
        if !hit {
            assert!(point > 8);
            break;
        }
    }
}

#[tokio::test]
async fn a_ring_that_was_read_outlives_the_power_though_its_writer_was_killed() {
    for seed in 0..40 {
        let world = World::new(seed);
        let ring = world.file.create(ali()).await.unwrap();
        // The name of the new file is not durable yet.
        let fault = Fault::down().on(OpKind::SyncDir).after(1); // the first one is made on reading
        world.disk.fail(fault);
        world.file.rotate(&ring).await.unwrap_err();
        assert!(world.disk.is_down());
        world.disk.kill();
        world.disk.heal_all();
        let read = World::process(&world.disk, seed).open(sesame()).await.unwrap();
        assert_eq!(read.info().generation, 2);
        world.disk.crash();
        let found = World::process(&world.disk, seed).open(sesame()).await.unwrap();
        assert_eq!(found.info(), read.info(), "seed {seed}: what was sealed with the new key is lost");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_ring_on_a_real_disk_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;

    let temp = tempfile::tempdir().unwrap();
    let path: PathBuf = temp.path().join("keyring");
    let entropy = Arc::new(SeededEntropy::new(1));
    let file = KeyringFile::new(Arc::new(OsDisk), ManualClock::new(), entropy, &path);
    let ring = file.create(ali()).await.unwrap();
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let ring = file.rotate(&ring).await.unwrap();
    assert_eq!(mode(), 0o600);
    assert_eq!(file.open(sesame()).await.unwrap().info(), ring.info());
    let names: Vec<_> =
        std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}
