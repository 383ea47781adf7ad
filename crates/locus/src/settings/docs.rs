//! The table of all settings, from which `docs/settings.md` and `config/locus.toml` are made.

use std::fmt::Write;

use crate::settings::{model::Settings, unit::size_text};

/// One setting.
struct Row {
    name: &'static str,
    unit: &'static str,
    /// Its default as TOML says it; `None` when it is unset by default.
    default: fn(&Settings) -> Option<String>,
    /// What it would look like when it is unset by default; else empty.
    example: &'static str,
    meaning: &'static str,
}

const SECTIONS: [(&str, &str); 12] = [
    ("store", "Where the store lies and what it promises."),
    ("journal", "How the journal is kept."),
    ("retry", "When failed files come back."),
    ("leases", "How long workers may take."),
    ("quotas", "How many files and bytes may be held. What was set at run time wins over these."),
    ("workers", "How workers run unless told otherwise."),
    ("background", "What goes on by itself."),
    ("cleanup", "What is tidied, and when."),
    ("expansion", "When the pool grows by itself, and by which volumes. Without spare volumes it does not."),
    ("volumes", "The volumes to mount at start: one [[volumes]] for each."),
    ("tenants", "The tenants to create when absent: one [[tenants]] for each."),
    (
        "watchers",
        "The folders to watch: one [[watchers]] for each. What was changed at run time wins over these.",
    ),
];

const COUNT: &str = "number";
const FILES: &str = "files";
const TIME: &str = "time: `500ms`, `30s`, `5m`, `1h`, `1day`";
const SIZE: &str = "size: `64 KiB`, `32 MiB`, `1 GiB`";
const PROMISE: &str = "`durable` or `buffered`";
const SWITCH: &str = "`true` or `false`";

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { name: "store.data_dir", unit: "path", default: |s| text(s.store.data_dir.display()), example: "",
        meaning: "The directory of journal, checkpoints and tenants. A relative path is relative to this file." },
    Row { name: "store.durability", unit: PROMISE, default: |s| promise(s.store.durability), example: "",
        meaning: "What Ok of a change promises: it survives power loss (durable), or the death of the process (buffered)." },
    Row { name: "store.complete_durability", unit: PROMISE, default: |s| s.store.complete_durability.and_then(promise), example: "\"buffered\"",
        meaning: "What Ok of a completion promises. Unset: as store.durability. With buffered, power loss may deliver a completed file again." },
    Row { name: "store.max_unsynced", unit: TIME, default: |s| time(s.store.max_unsynced), example: "",
        meaning: "Longest time that anything written stays unsynced: what power loss may take in buffered mode." },
    Row { name: "store.max_unsynced_size", unit: SIZE, default: |s| size(s.store.max_unsynced_size), example: "",
        meaning: "Most bytes of the journal that stay unsynced; beyond them callers wait. 1 MiB to 1 TiB." },
    Row { name: "store.downtime_max", unit: TIME, default: |s| time(s.store.downtime_max), example: "",
        meaning: "Most that store time, in which delays and ages count, advances over a restart." },
    Row { name: "store.idempotency_max", unit: COUNT, default: |s| number(s.store.idempotency_max), example: "",
        meaning: "Most idempotency keys remembered; beyond them a write with a key is refused." },
    Row { name: "store.upload_expiry", unit: TIME, default: |s| time(s.store.upload_expiry), example: "",
        meaning: "An upload to which nothing came for so long is ended and its room given back, at the next look for leftovers." },
    Row { name: "store.placement", unit: "`most-available`, `round-robin`, `least-used`, `capacity-weighted` or `two-choices`", default: |s| placement(s.store.placement), example: "",
        meaning: "How a volume is chosen for new content among those with room for it: the one with the most room; one after the other; the one of which the smallest share is used; at random in proportion to their sizes; or of two drawn so the one of which less is used." },
    Row { name: "journal.segment_size", unit: SIZE, default: |s| size(s.journal.segment_size), example: "",
        meaning: "Largest segment of the journal. 1 MiB to 1 GiB. A fresh store begins with small ones and doubles." },
    Row { name: "journal.inline_content_max", unit: SIZE, default: |s| size(s.journal.inline_content_max), example: "",
        meaning: "Longest content that rests in the journal instead of on a volume, and then has no path. At most a sixteenth of journal.segment_size; 0: every content is a file on a volume." },
    Row { name: "journal.landing_zone_max", unit: SIZE, default: |s| s.journal.landing_zone_max.and_then(size), example: "\"4 GiB\"",
        meaning: "Most bytes of segments that contents may occupy, at least four of journal.segment_size; beyond it contents go to volumes. Unset: 10 % of what is free on the disk of store.data_dir at the start, at least 1 GiB, never more than half of it." },
    Row { name: "journal.pending_max", unit: SIZE, default: |s| size(s.journal.pending_max), example: "",
        meaning: "Most bytes of records that wait in memory to be written; beyond them callers wait. 64 KiB to 256 MiB." },
    Row { name: "journal.checkpoint_size", unit: SIZE, default: |s| size(s.journal.checkpoint_size), example: "",
        meaning: "A checkpoint is due when the log since the last one is longer than this and than that checkpoint. 64 KiB to 1 TiB." },
    Row { name: "retry.max_retries", unit: COUNT, default: |s| number(s.retry.max_retries), example: "",
        meaning: "The failure with this number is the last." },
    Row { name: "retry.initial_delay", unit: TIME, default: |s| time(s.retry.initial_delay), example: "",
        meaning: "Delay after the first failure." },
    Row { name: "retry.exponential", unit: SWITCH, default: |s| number(s.retry.exponential), example: "",
        meaning: "Whether the delay doubles with each failure." },
    Row { name: "retry.max_delay", unit: TIME, default: |s| time(s.retry.max_delay), example: "",
        meaning: "No delay is longer than this." },
    Row { name: "leases.visibility_timeout", unit: TIME, default: |s| time(s.leases.visibility_timeout), example: "",
        meaning: "How long a lease lasts when it does not say; then the file is handed out again." },
    Row { name: "leases.max_deliveries", unit: COUNT, default: |s| s.leases.max_deliveries.and_then(number), example: "10",
        meaning: "After this many deliveries a file that times out is given up. Unset: the larger of 10 and twice retry.max_retries. Less than retry.max_retries is refused." },
    Row { name: "quotas.global", unit: FILES, default: |s| s.quotas.global.and_then(number), example: "10000000",
        meaning: "Most files of the store as a whole. Unset: no limit." },
    Row { name: "quotas.tenant", unit: FILES, default: |s| s.quotas.tenant.and_then(number), example: "1000000",
        meaning: "Most files of a tenant without a limit of its own. Unset: no limit." },
    Row { name: "quotas.global_size", unit: SIZE, default: |s| s.quotas.global_size.and_then(size), example: "\"1 TiB\"",
        meaning: "Most bytes of the store as a whole. Unset: no limit." },
    Row { name: "quotas.tenant_size", unit: SIZE, default: |s| s.quotas.tenant_size.and_then(size), example: "\"10 GiB\"",
        meaning: "Most bytes of a tenant without a limit of its own. Unset: no limit." },
    Row { name: "quotas.directories", unit: "list", default: |_| None, example: "[{ pattern = \"*/invoices/*\", max_files = 10000, max_bytes = 1000000000, enabled = true }]",
        meaning: "Limits of directories, each with a count of its own: `pattern` is tenant/directory or a glob over that (`*` within a level, `**` across levels), `max_files` and `max_bytes` its limits, `enabled` (default true) whether it holds. A directory named exactly wins over globs, and of globs the one with more ordinary characters." },
    Row { name: "quotas.subtrees", unit: "list", default: |_| None, example: "[{ pattern = \"acme/scans\", max_files = 100000 }]",
        meaning: "The same for a directory together with all beneath it. It holds beside the limits of the single directories." },
    Row { name: "workers.concurrency", unit: FILES, default: |s| number(s.workers.concurrency), example: "",
        meaning: "Files that one set of workers processes at the same time." },
    Row { name: "workers.drain_timeout", unit: TIME, default: |s| time(s.workers.drain_timeout), example: "",
        meaning: "How long handlers that run are waited for when workers or the store stop; then their files are released." },
    Row { name: "background.probe_interval", unit: TIME, default: |s| time(s.background.probe_interval), example: "",
        meaning: "How often volumes are measured and their identity is checked." },
    Row { name: "cleanup.completed.retention", unit: TIME, default: |s| time(s.cleanup.completed.retention), example: "",
        meaning: "How long record and bytes of a completed file stay; meanwhile it counts against quotas." },
    Row { name: "cleanup.completed.batch", unit: COUNT, default: |s| number(s.cleanup.completed.batch), example: "",
        meaning: "Most files that one step removes. They are removed as they end: there is no interval, and no switch, because drains, requeues and purges wait for it." },
    Row { name: "cleanup.timed_out.batch", unit: COUNT, default: |s| number(s.cleanup.timed_out.batch), example: "",
        meaning: "Most leases that one step writes back. They are as they run out: there is no interval, and no switch, because counts would not be true." },
    Row { name: "cleanup.permanently_failed.enabled", unit: SWITCH, default: |s| number(s.cleanup.permanently_failed.enabled), example: "",
        meaning: "Whether files that failed for the last time are looked at by themselves." },
    Row { name: "cleanup.permanently_failed.interval", unit: TIME, default: |s| time(s.cleanup.permanently_failed.interval), example: "",
        meaning: "How often." },
    Row { name: "cleanup.permanently_failed.retention", unit: TIME, default: |s| time(s.cleanup.permanently_failed.retention), example: "",
        meaning: "How long such a file stays first." },
    Row { name: "cleanup.permanently_failed.batch", unit: COUNT, default: |s| number(s.cleanup.permanently_failed.batch), example: "",
        meaning: "Most files that one step looks at. 1 to 4096, as for every batch here." },
    Row { name: "cleanup.permanently_failed.policy", unit: "`keep`, `dead-letter` or `delete`", default: |s| text(s.cleanup.permanently_failed.policy), example: "",
        meaning: "What becomes of it then: it stays, is moved to `.deadletter` in its volume and out of the quotas, or is deleted." },
    Row { name: "cleanup.dead_letters.enabled", unit: SWITCH, default: |s| number(s.cleanup.dead_letters.enabled), example: "",
        meaning: "Whether dead letters are looked at by themselves." },
    Row { name: "cleanup.dead_letters.interval", unit: TIME, default: |s| time(s.cleanup.dead_letters.interval), example: "",
        meaning: "How often." },
    Row { name: "cleanup.dead_letters.retention", unit: TIME, default: |s| s.cleanup.dead_letters.retention.and_then(time), example: "\"90days\"",
        meaning: "How long a dead letter stays before it is purged. Unset: for ever." },
    Row { name: "cleanup.dead_letters.batch", unit: COUNT, default: |s| number(s.cleanup.dead_letters.batch), example: "",
        meaning: "Most files that one step looks at." },
    Row { name: "cleanup.orphans.enabled", unit: SWITCH, default: |s| number(s.cleanup.orphans.enabled), example: "",
        meaning: "Whether blobs without a record are looked for by themselves, for the first time at the start." },
    Row { name: "cleanup.orphans.interval", unit: TIME, default: |s| time(s.cleanup.orphans.interval), example: "",
        meaning: "How often." },
    Row { name: "cleanup.orphans.age", unit: TIME, default: |s| time(s.cleanup.orphans.age), example: "",
        meaning: "Younger ones are left alone; counted by the wall clock from when the write began." },
    Row { name: "cleanup.orphans.policy", unit: "`quarantine`, `delete` or `import`", default: |s| text(s.cleanup.orphans.policy), example: "",
        meaning: "What becomes of one: it is put into `.quarantine` in its volume and stays there until somebody removes it, is removed, or becomes a pending file (for a store that was salvaged or restored: a write that was never confirmed looks the same)." },
    Row { name: "cleanup.orphans.batch", unit: COUNT, default: |s| number(s.cleanup.orphans.batch), example: "",
        meaning: "Most blobs that one step looks at." },
    Row { name: "cleanup.orphans.budget", unit: COUNT, default: |s| number(s.cleanup.orphans.budget), example: "",
        meaning: "Most blobs that one run looks at; the next goes on where it stopped, also after a restart." },
    Row { name: "cleanup.leftovers.enabled", unit: SWITCH, default: |s| number(s.cleanup.leftovers.enabled), example: "",
        meaning: "Whether staging of killed writes and uploads that were given up are looked for by themselves, for the first time at the start." },
    Row { name: "cleanup.leftovers.interval", unit: TIME, default: |s| time(s.cleanup.leftovers.interval), example: "",
        meaning: "How often." },
    Row { name: "cleanup.leftovers.batch", unit: COUNT, default: |s| number(s.cleanup.leftovers.batch), example: "",
        meaning: "Most staged files that one step looks at." },
    Row { name: "cleanup.missing.enabled", unit: SWITCH, default: |s| number(s.cleanup.missing.enabled), example: "",
        meaning: "Whether records whose bytes are gone are looked for by themselves." },
    Row { name: "cleanup.missing.interval", unit: TIME, default: |s| time(s.cleanup.missing.interval), example: "",
        meaning: "How often." },
    Row { name: "cleanup.missing.policy", unit: "`report` or `remove`", default: |s| text(s.cleanup.missing.policy), example: "",
        meaning: "What becomes of one whose bytes are certainly gone: it is told in the log, or told and removed." },
    Row { name: "cleanup.missing.batch", unit: COUNT, default: |s| number(s.cleanup.missing.batch), example: "",
        meaning: "Most records that one step looks at." },
    Row { name: "cleanup.missing.budget", unit: COUNT, default: |s| number(s.cleanup.missing.budget), example: "",
        meaning: "Most records that one run looks at; the next goes on where it stopped, also after a restart." },
    Row { name: "cleanup.empty_directories.enabled", unit: SWITCH, default: |s| number(s.cleanup.empty_directories.enabled), example: "",
        meaning: "Whether directories on volumes that hold nothing are removed by themselves. Never the mount or a tenant's own." },
    Row { name: "cleanup.empty_directories.interval", unit: TIME, default: |s| time(s.cleanup.empty_directories.interval), example: "",
        meaning: "How often those are looked at that lost a blob, as far as this process remembers; one that a write used meanwhile stays." },
    Row { name: "cleanup.empty_directories.full_interval", unit: TIME, default: |s| time(s.cleanup.empty_directories.full_interval), example: "",
        meaning: "How often all are looked at." },
    Row { name: "cleanup.empty_directories.batch", unit: COUNT, default: |s| number(s.cleanup.empty_directories.batch), example: "",
        meaning: "Most directories that one step looks at." },
    Row { name: "cleanup.empty_directories.protected", unit: "list of globs", default: |s| list(&s.cleanup.empty_directories.protected), example: "",
        meaning: "Directories that stay, by their path below the mount: `*` within a level, `**` across levels." },
    Row { name: "cleanup.junk.enabled", unit: SWITCH, default: |s| number(s.cleanup.junk.enabled), example: "",
        meaning: "Whether files of other programs are removed from the directories of volumes." },
    Row { name: "cleanup.junk.interval", unit: TIME, default: |s| time(s.cleanup.junk.interval), example: "",
        meaning: "How often." },
    Row { name: "cleanup.junk.batch", unit: COUNT, default: |s| number(s.cleanup.junk.batch), example: "",
        meaning: "Most directories that one step looks into." },
    Row { name: "cleanup.junk.names", unit: "list of names", default: |s| list(&s.cleanup.junk.names), example: "",
        meaning: "Their names." },
    Row { name: "cleanup.store.enabled", unit: SWITCH, default: |s| number(s.cleanup.store.enabled), example: "",
        meaning: "Whether a checkpoint is taken now and then beside those that the journal asks for. It is one step, and has no batch." },
    Row { name: "cleanup.store.interval", unit: TIME, default: |s| time(s.cleanup.store.interval), example: "",
        meaning: "How often." },
    Row { name: "cleanup.store.window", unit: "time of the day, UTC: `02:00-04:30`", default: |s| s.cleanup.store.window.and_then(text), example: "\"02:00-04:30\"",
        meaning: "At what time of the day alone. Unset: at any." },
    Row { name: "expansion.free_percent_min", unit: "percent", default: |s| number(s.expansion.free_percent_min), example: "",
        meaning: "Below this share of free space of all volumes together the next spare volume is mounted. 0 to 99; 0: never. A write that finds no room mounts it in any case." },
    Row { name: "expansion.free_size_min", unit: SIZE, default: |s| s.expansion.free_size_min.and_then(size), example: "\"100 GiB\"",
        meaning: "Below so much free space of all volumes together the next spare volume is mounted. Unset: never." },
    Row { name: "expansion.volumes", unit: "list", default: |_| None, example: "[{ id = \"vol-901\", path = \"/mnt/spare-1\" }]",
        meaning: "Spare volumes, described as in [[volumes]], in the order in which they are mounted. Once files rest on one it is mounted at each start." },
    Row { name: "volumes", unit: "list", default: |_| None, example: "id = \"vol-001\"\npath = \"./locus-data/vol-001\"",
        meaning: "`id` is its name; `path` its directory, created when absent; `kind` is local (default; `reads_max`, default 64, and `writes_max`, default 32, calls at the same time), network (a mounted share; `operation_timeout`, default 30s, and `stuck_max`, default 32 calls) or mirrored (no path; `members` as [[volumes.members]], and `quorum`, how many must have a content, default all; `new_disk = true` in a member lets an empty disk take its place, until it is filled). A relative path is relative to this file." },
    Row { name: "tenants", unit: "list", default: |_| None, example: "id = \"acme\"\nproperties = { city = \"Graz\" }",
        meaning: "`id` is its name; `properties` are given to it when it is created." },
    Row { name: "watchers", unit: "list", default: |_| None, example: "path = \"./inbox\"\nmulti_tenant = true\nauto_create_tenant_directories = true",
        meaning: "`path` is the folder, relative to this file; all in it is of `tenant`, or with `multi_tenant = true` of the tenant that its first folder names (`auto_create_tenant_directories` makes one for every enabled tenant). `id` is its name (default: derived from mode and path). `include` and `exclude` are lists of globs, over names or, with a `/`, over paths; `subdirectories` (default true), `age_min` (5s), `stability_delay` (2s), `size_max` (no limit) say what is ready; `polling_interval` (30s) and `concurrent_imports` (4, at most 64) how it is looked for. `after_import` is delete (default), move (to `move_to`) or keep; `directory_from_folder = true` makes the folders of a source its logical directory; `enabled` (default true) whether it runs." },
];

/// Whether `name` is a setting, with dots between its parts.
pub(crate) fn is_known(name: &str) -> bool {
    ROWS.iter().any(|row| row.name == name)
}

/// The page `docs/settings.md`.
#[must_use]
pub fn settings_markdown() -> String {
    let defaults = Settings::default();
    let mut page = String::from(
        "# Settings\n\n\
         Made from the code by `LOCUS_WRITE_SETTINGS=1 cargo test -p locus --test it settings`; do not edit by hand.\n\n\
         `Settings::load(\"config/locus.toml\")` reads the file, then variables of the environment: `LOCUS__SECTION__KEY`\n\
         wins over `key` in `[section]`, for example `LOCUS__LEASES__VISIBILITY_TIMEOUT=10m`. Lists come from the file alone.\n\
         Relative paths are relative to the file. Unknown names and contradictions are refused by name.\n",
    );
    for (section, meaning) in SECTIONS {
        write(
            &mut page,
            format_args!(
                "\n## [{section}]\n{meaning}\n\n| name | unit | default | meaning |\n|---|---|---|---|\n"
            ),
        );
        for row in rows_of(section) {
            let default = (row.default)(&defaults).map_or("unset".into(), |value| format!("`{value}`"));
            write(
                &mut page,
                format_args!("| `{}` | {} | {default} | {} |\n", row.name, row.unit, row.meaning),
            );
        }
    }
    page
}

/// The file `config/locus.toml`: every setting with its default and unit.
#[must_use]
pub fn settings_toml() -> String {
    let defaults = Settings::default();
    let mut file = String::from(
        "# Every setting with its default and unit. What is commented out is unset by default.\n\
         # The environment wins: LOCUS__SECTION__KEY, for example LOCUS__LEASES__VISIBILITY_TIMEOUT=10m.\n\
         # Made from the code, as docs/settings.md says.\n",
    );
    for (section, meaning) in SECTIONS {
        write(&mut file, format_args!("\n# {meaning}\n"));
        let is_list = rows_of(section).any(|row| row.name == section);
        if !is_list {
            write(&mut file, format_args!("[{section}]\n"));
        }
        for row in rows_of(section) {
            let key = row.name.split_once('.').map_or(row.name, |(_, key)| key);
            write(&mut file, format_args!("# {} ({})\n", row.meaning, row.unit.replace('`', "")));
            match (row.default)(&defaults) {
                Some(value) => write(&mut file, format_args!("{key} = {value}\n")),
                None if is_list => {
                    write(&mut file, format_args!("# [[{section}]]\n"));
                    for line in row.example.lines() {
                        write(&mut file, format_args!("# {line}\n"));
                    }
                }
                None => write(&mut file, format_args!("# {key} = {}\n", row.example)),
            }
        }
    }
    file
}

fn rows_of(section: &str) -> impl Iterator<Item = &'static Row> {
    ROWS.iter().filter(move |row| row.name.split('.').next() == Some(section))
}

fn write(to: &mut String, what: std::fmt::Arguments<'_>) {
    to.write_fmt(what).expect("because a text takes everything");
}

fn number(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn text(value: impl ToString) -> Option<String> {
    Some(format!("\"{}\"", value.to_string()))
}

fn list(texts: &[String]) -> Option<String> {
    Some(format!("{texts:?}"))
}

fn size(bytes: u64) -> Option<String> {
    text(size_text(bytes))
}

fn time(time: std::time::Duration) -> Option<String> {
    text(humantime_serde::re::humantime::format_duration(time))
}

fn placement(placement: locus_storage::Placement) -> Option<String> {
    use locus_storage::Placement as P;
    text(match placement {
        P::RoundRobin => "round-robin",
        P::LeastUsed => "least-used",
        P::CapacityWeighted => "capacity-weighted",
        P::TwoChoices => "two-choices",
        _ => "most-available",
    })
}

fn promise(durability: locus_core::Durability) -> Option<String> {
    text(match durability {
        locus_core::Durability::Durable => "durable",
        locus_core::Durability::Buffered => "buffered",
    })
}
