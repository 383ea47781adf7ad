//! Settings: the file, the environment, the documents.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use locus::{Error, LocalVolume, Locus, Settings, VolumeId, WriteOptions, settings_markdown, settings_toml};
use rstest::rstest;

use crate::support::setting_of;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn put(path: &Path, text: &str) {
    let mut file =
        OpenOptions::new().create(true).write(true).truncate(true).open(path).expect("a writable path");
    file.write_all(text.as_bytes()).expect("room");
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, Error> {
    let temp = tempfile::tempdir().expect("a place for files");
    let path = temp.path().join("locus.toml");
    put(&path, text);
    Settings::load_with(&path, environment.iter().map(|(name, value)| (name.to_string(), value.to_string())))
}

/// With `LOCUS_WRITE_SETTINGS` set, writes what the code says instead of comparing it.
fn hold(path: &str, made: &str) {
    let path = root().join(path);
    if std::env::var_os("LOCUS_WRITE_SETTINGS").is_some() {
        put(&path, made);
    }
    let kept = std::fs::read_to_string(&path).expect("the document");
    assert!(kept == made, "{} differs from the code: see its first lines", path.display());
}

#[test]
fn the_settings_file_is_what_the_code_says() {
    hold("config/locus.toml", &settings_toml());
}

#[test]
fn the_settings_page_is_what_the_code_says() {
    hold("docs/settings.md", &settings_markdown());
}

#[test]
fn the_settings_file_holds_the_defaults() {
    let config = root().join("config");
    let loaded = Settings::load_with(&config.join("locus.toml"), []).unwrap();
    let mut defaults = Settings::default();
    defaults.store.data_dir = std::path::absolute(&config).unwrap().join("./locus-data");
    assert_eq!(loaded, defaults);
}

#[test]
fn what_is_commented_out_in_the_settings_file_can_be_commented_in() {
    let text = settings_toml();
    let mut enabled = String::new();
    for line in text.lines() {
        let setting = line.strip_prefix("# ").filter(|rest| {
            rest.starts_with("[[") || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
        });
        enabled += setting.unwrap_or(line);
        enabled += "\n";
    }
    let settings = load(&enabled, &[]).unwrap();
    assert_eq!(settings.volumes.len(), 1);
    assert_eq!(settings.tenants[0].properties["city"], "Graz");
    assert_eq!(settings.quotas.directories[0].max_files, 10_000);
    assert_eq!(settings.journal.landing_zone_max, Some(4 << 30));
    assert!(settings.quotas.global.is_some() && settings.leases.max_deliveries.is_some());
}

#[test]
fn sizes_are_written_as_text_also_where_they_may_be_unset() {
    let mut settings = Settings::default();
    let written = |settings: &Settings| serde_json::to_value(settings).unwrap()["journal"].clone();
    assert!(written(&settings)["landing_zone_max"].is_null());
    settings.journal.landing_zone_max = Some(4 << 30);
    let journal = written(&settings);
    assert_eq!(journal["landing_zone_max"], "4 GiB");
    assert_eq!(journal["inline_content_max"], "64 KiB");
    let read: Settings = serde_json::from_value(serde_json::json!({ "journal": journal })).unwrap();
    assert_eq!(read, settings);
}

#[test]
fn every_setting_is_in_the_documents() {
    let all = serde_json::to_value(Settings::default()).unwrap();
    let mut names = Vec::new();
    let mut below: Vec<(String, &serde_json::Value)> = vec![(String::new(), &all)];
    while let Some((name, value)) = below.pop() {
        match value.as_object() {
            Some(keys) => below.extend(keys.iter().map(|(key, value)| {
                (if name.is_empty() { key.clone() } else { format!("{name}.{key}") }, value)
            })),
            None => names.push(name),
        }
    }
    assert!(names.len() > 20, "{names:?}");
    let page = settings_markdown();
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not documented");
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let text = "[leases]\nvisibility_timeout = \"10m\"\n[journal]\nsegment_size = \"2 MiB\"";
    let settings = load(
        text,
        &[
            ("LOCUS__LEASES__VISIBILITY_TIMEOUT", "90s"),
            ("LOCUS__QUOTAS__TENANT", "7"),
            ("LOCUS__JOURNAL__PENDING_MAX", "1048576"),
            ("LOCUS__JOURNAL__INLINE_CONTENT_MAX", "0"),
            ("LOCUS__JOURNAL__LANDING_ZONE_MAX", "8 MiB"),
            ("LOCUS__RETRY__EXPONENTIAL", "false"),
            ("LOCUS__STORE__DURABILITY", "buffered"),
            ("LOCUS__CLEANUP__ORPHANS__POLICY", "import"),
            ("LOCUS__CLEANUP__STORE__WINDOW", "22:00-04:00"),
            ("LOCUSX__STORE__NONSENSE", "1"),
        ],
    )
    .unwrap();
    assert_eq!(settings.leases.visibility_timeout, Duration::from_secs(90));
    assert_eq!(settings.journal.segment_size, 2 << 20);
    assert_eq!(settings.journal.pending_max, 1 << 20);
    assert_eq!(settings.journal.inline_content_max, 0);
    assert_eq!(settings.journal.landing_zone_max, Some(8 << 20));
    assert_eq!(settings.quotas.tenant, Some(7));
    assert!(!settings.retry.exponential);
    assert_eq!(settings.store.durability, locus::Durability::Buffered);
    assert_eq!(settings.cleanup.orphans.policy, locus::OrphanPolicy::Import);
    assert_eq!(settings.cleanup.store.window, Some("22:00-04:00".parse().unwrap()));
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("locus.toml");
    put(
        &path,
        "[store]\ndata_dir = \"data\"\n[[volumes]]\nid = \"a\"\npath = \"vol-a\"\n\
         [[volumes]]\nid = \"b\"\npath = \"/mnt/b\"",
    );
    let settings = Settings::load_with(&path, []).unwrap();
    assert_eq!(settings.store.data_dir, temp.path().join("data"));
    assert_eq!(settings.volumes[0].path, temp.path().join("vol-a"));
    assert_eq!(settings.volumes[1].path, Path::new("/mnt/b"));
}

#[tokio::test]
async fn a_share_and_a_mirror_are_mounted_as_the_settings_say() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("locus.toml");
    put(
        &path,
        "[store]\ndata_dir = \"data\"\n[journal]\ninline_content_max = \"0 B\"\n[[volumes]]\nid = \"m\"\nkind = \"mirrored\"\nquorum = 1\n\
         [[volumes.members]]\nid = \"one\"\npath = \"one\"\n\
         [[volumes.members]]\nid = \"two\"\nkind = \"network\"\npath = \"two\"\noperation_timeout = \"5s\"",
    );
    let key = {
        let settings = Settings::load_with(&path, []).unwrap();
        let locus = Locus::builder().settings(settings).add_tenant("acme").build().await.unwrap();
        let acme = locus.tenants().get("acme").await.unwrap();
        let key = locus.pool().write(&acme, "hello", WriteOptions::new()).await.unwrap();
        locus.shutdown().await.unwrap();
        key
    };
    // One side is lost with all it held, and its mount point is empty.
    fs::remove_dir_all(temp.path().join("one")).unwrap();
    fs::create_dir(temp.path().join("one")).unwrap();
    let settings = Settings::load_with(&path, []).unwrap();
    let locus = Locus::builder().settings(settings).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    assert_eq!(locus.pool().read_range(&acme, &key, 0..100).await.unwrap(), "hello");
    assert_eq!(fs::read_dir(temp.path().join("one")).unwrap().count(), 0, "an empty mount point stays empty");
    locus.shutdown().await.unwrap();
    let mut settings = Settings::load_with(&path, []).unwrap();
    settings.volumes[0].members[0].new_disk = true;
    let locus = Locus::builder().settings(settings).build().await.unwrap();
    locus.pool().scrub(&VolumeId::parse("m").unwrap(), |_| {}).await.unwrap();
    assert_eq!(fs::read_dir(temp.path().join("one/acme")).unwrap().count(), 1, "a new disk is filled");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_mirror_of_the_settings_is_scrubbed_by_its_name() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("locus.toml");
    put(
        &path,
        "[store]\ndata_dir = \"data\"\n[journal]\ninline_content_max = \"0 B\"\n[[volumes]]\nid = \"m\"\nkind = \"mirrored\"\n\
         [[volumes.members]]\nid = \"one\"\npath = \"one\"\n[[volumes.members]]\nid = \"two\"\npath = \"two\"",
    );
    let settings = Settings::load_with(&path, []).unwrap();
    let locus = Locus::builder().settings(settings).add_tenant("acme").build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    for _ in 0..8 {
        locus.pool().write(&acme, "hello", WriteOptions::new()).await.unwrap();
    }
    fs::remove_dir_all(temp.path().join("two/acme")).unwrap();
    let (mirror, mut told) = (VolumeId::parse("m").unwrap(), 0);
    let done = locus.pool().scrub(&mirror, |so_far| told = so_far.looked_at).await.unwrap();
    assert_eq!((done.looked_at, done.repaired_missing, told), (8, 8, 8), "{done:?}");
    let plain = locus.pool().mount(LocalVolume::new("plain", temp.path().join("plain"))).await.unwrap();
    let refused = locus.pool().scrub(&plain, |_| {}).await;
    assert!(matches!(refused, Err(Error::InvalidArgument { name: "id", .. })), "{refused:?}");
    let unknown = locus.pool().scrub(&VolumeId::parse("none").unwrap(), |_| {}).await;
    assert!(matches!(unknown, Err(Error::VolumeNotFound { .. })), "{unknown:?}");
    locus.shutdown().await.unwrap();
}

#[rstest]
fn b86_a_place_for_dead_letters_is_refused_with_where_they_are(
    #[values("/elsewhere", "../escapes", ".deadletter")] root: &str,
) {
    let refused = load(&format!("[cleanup.dead_letters]\nroot = {root:?}"), &[]).unwrap_err().to_string();
    for said in ["cleanup.dead_letters.root", "`.deadletter` of the volume"] {
        assert!(refused.contains(said), "{refused}");
    }
}

#[rstest]
#[case("completed.enabled = false", "drains, requeues and purges wait for that")]
#[case("completed.interval = \"1h\"", "no interval")]
#[case("timed_out.enabled = false", "so that counts tell the truth")]
#[case("timed_out.retention = \"1h\"", "cannot be turned off")]
#[case("store.batch = 9", "as a whole")]
fn b86_what_a_job_does_not_have_is_refused_with_why(#[case] setting: &str, #[case] why: &str) {
    let refused = load(&format!("[cleanup]\n{setting}"), &[]).unwrap_err();
    let name = setting.split(' ').next().unwrap();
    assert_eq!(setting_of(&refused), format!("cleanup.{name}"));
    assert!(refused.to_string().contains(why), "{refused}");
}

#[rstest]
#[case::unknown_key("[store]\ndata_dri = \"x\"", &[], "store.data_dri")]
#[case::unknown_section("[stroe]\ndata_dir = \"x\"", &[], "stroe.data_dir")]
#[case::unknown_in_the_environment("", &[("LOCUS__STORE__NONSENSE", "1")], "store.nonsense")]
#[case::wrong_kind("[store]\nidempotency_max = \"many\"", &[], "store.idempotency_max")]
#[case::no_time("[leases]\nvisibility_timeout = \"soon\"", &[], "leases.visibility_timeout")]
#[case::no_size("", &[("LOCUS__JOURNAL__SEGMENT_SIZE", "big")], "journal.segment_size")]
#[case::no_optional_size("[journal]\nlanding_zone_max = \"some\"", &[], "journal.landing_zone_max")]
#[case::inline_too_large("[journal]\ninline_content_max = \"5 MiB\"", &[], "journal.inline_content_max")]
#[case::zone_too_small("[journal]\nlanding_zone_max = \"100 MiB\"", &[], "journal.landing_zone_max")]
#[case::no_durability("[store]\ndurability = \"maybe\"", &[], "store.durability")]
#[case::unknown_in_a_list("[[volumes]]\nid = \"a\"\npath = \"x\"\ndepth = 3", &[], "volumes")]
#[case::no_path("[[volumes]]\nid = \"a\"", &[], "volumes[a].path")]
#[case::no_kind("[[volumes]]\nid = \"a\"\npath = \"x\"\nkind = \"tape\"", &[], "volumes")]
#[case::time_out_of_a_disk("[[volumes]]\nid = \"a\"\npath = \"x\"\nstuck_max = 3", &[], "volumes[a].kind")]
#[case::no_reads("[[volumes]]\nid = \"a\"\npath = \"x\"\nreads_max = 0", &[], "volumes[a].reads_max")]
#[case::too_many_writes("[[volumes]]\nid = \"a\"\npath = \"x\"\nwrites_max = 1025", &[], "volumes[a].writes_max")]
#[case::reads_of_a_share("[[volumes]]\nid = \"a\"\npath = \"x\"\nkind = \"network\"\nreads_max = 3", &[], "volumes[a].reads_max")]
#[case::new_disk_of_no_mirror("[[volumes]]\nid = \"a\"\npath = \"x\"\nnew_disk = true", &[], "volumes[a].new_disk")]
#[case::mirror_of_one("[[volumes]]\nid = \"a\"\nkind = \"mirrored\"\n[[volumes.members]]\nid = \"b\"\npath = \"b\"", &[], "volumes[a].members")]
#[case::bad_id("[[tenants]]\nid = \"A B\"", &[], "tenants")]
#[case::contradiction("[retry]\nmax_retries = 5\n[leases]\nmax_deliveries = 4", &[], "leases.max_deliveries")]
#[case::pending("[journal]\npending_max = \"257 MiB\"", &[], "journal.pending_max")]
#[case::range("[journal]\nsegment_size = \"4 KiB\"", &[], "journal.segment_size")]
#[case::glob("[[quotas.directories]]\npattern = \"*/[z-a]\"\nmax_files = 1", &[], "quotas.directories[*/[z-a]]")]
#[case::twice("[[tenants]]\nid = \"a\"\n[[tenants]]\nid = \"a\"", &[], "tenants[a]")]
fn b86_a_bad_setting_is_refused_by_its_name(
    #[case] text: &str,
    #[case] environment: &[(&str, &str)],
    #[case] name: &str,
) {
    let error = load(text, environment).unwrap_err();
    assert_eq!(setting_of(&error), name, "{error}");
}

#[test]
fn a_missing_file_and_a_file_that_is_no_toml_are_named() {
    let missing = Settings::load("/nonexistent/locus.toml").unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/locus.toml"), "{missing}");
    let error = load("[store", &[]).unwrap_err();
    assert!(setting_of(&error).ends_with("locus.toml"), "{error}");
}
