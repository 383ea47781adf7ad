//! A directory of tenants.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use hashbrown::HashMap;
use locus_core::{
    Clock, Error, Properties, Result, Site, StoragePath, Tenant, TenantAccess, TenantId, TenantManager,
    TenantStatus,
};
use locus_fs::{Disk, EntryKind, create_dirs, off_thread, read_bounded, replace, sync_data, sync_dir};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::{
    record,
    removal::{Removal, Removals},
    removed,
};

/// What a tenant's file is called after the tenant's name.
const SUFFIX: &str = ".tenant";

/// What is in force.
#[derive(Debug, Default)]
struct Known {
    tenants: HashMap<TenantId, Arc<Tenant>>,
    /// Those of them that have no file.
    lost: HashSet<TenantId>,
    /// How many were removed so far.
    removed: u32,
}

/// The tenants of one data directory: a file each, all of them in memory.
///
/// Cheap to clone; clones share everything. One process at a time owns the directory: whoever opens it holds the lock
/// of the data directory around it.
#[derive(Debug, Clone)]
pub struct TenantDirectory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    known: RwLock<Known>,
    removals: Arc<Removals>,
    /// Held by the one change under way, so that what is on the disk and what is in memory change in one order.
    changing: Arc<Mutex<()>>,
}

impl TenantDirectory {
    /// Reads all tenants in `dir`, which is created when absent. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::NewerFormat`] name the file that cannot be read; nothing was changed.
    pub fn open(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, dir: PathBuf) -> Result<Self> {
        create_dirs(&*disk, &dir)?;
        // What a killed process had just replaced is made durable before it is believed.
        sync_dir(&*disk, &dir, Site::TenantsFound).map_err(Error::io("sync", &dir))?;
        let tenants = Self::read(&*disk, &dir)?;
        let known = Known {
            tenants: tenants.into_iter().map(|tenant| (tenant.id.clone(), Arc::new(tenant))).collect(),
            lost: HashSet::new(),
            removed: removed::read(&*disk, &dir)?,
        };
        let (removals, changing) = (Arc::default(), Arc::default());
        let inner = Inner { disk, clock, dir, known: RwLock::new(known), removals, changing };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The tenants in `dir`, in order of their names, without opening it: also while somebody else has it open. None when
    /// there is no such directory. Blocks the thread.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Vec<Tenant>> {
        let mut tenants = Vec::new();
        for (path, name) in files(disk, dir)? {
            tenants.extend(read_tenant(disk, path, &name)?);
        }
        tenants.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(tenants)
    }

    /// Writes all tenants into `dir`, which is created when absent and holds none of them, durably. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Io`]; some may be there then.
    pub fn copy_to(&self, dir: &Path) -> Result<()> {
        let (present, removed) = {
            let known = self.inner.known.read();
            let present = known.tenants.values().filter(|tenant| !known.lost.contains(&tenant.id));
            (present.cloned().collect::<Vec<_>>(), known.removed)
        };
        write_all(&*self.inner.disk, dir, &present, removed)
    }

    /// Writes those tenants in `from` that can be read into `to`, as [`copy_to`](Self::copy_to) does, and says which files
    /// cannot. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::NewerFormat`]; [`Error::Io`] of the new directory.
    pub fn salvage(disk: &dyn Disk, from: &Path, to: &Path) -> Result<Vec<PathBuf>> {
        let (mut good, mut damaged) = (Vec::new(), Vec::new());
        for (path, name) in files(disk, from)? {
            match read_tenant(disk, path.clone(), &name) {
                Ok(tenant) => good.extend(tenant.map(Arc::new)),
                Err(why @ Error::NewerFormat { .. }) => return Err(why),
                Err(why) => {
                    warn!(path = %path.display(), error = %why, "tenant passed over");
                    damaged.push(path);
                }
            }
        }
        let removed = match removed::read(disk, from) {
            Err(why @ Error::NewerFormat { .. }) => return Err(why),
            Err(why) => {
                warn!(error = %why, "number of removed tenants not known");
                damaged.push(from.join(removed::NAME));
                removed::UNREADABLE
            }
            Ok(removed) => removed,
        };
        damaged.sort_unstable();
        write_all(disk, to, &good, removed)?;
        Ok(damaged)
    }

    /// Creates the tenant unless it is there already. An existing tenant stays as it is.
    ///
    /// # Errors
    /// As [`create`](TenantManager::create), but for [`Error::TenantExists`].
    pub async fn ensure(&self, id: &TenantId, properties: Properties) -> Result<Arc<Tenant>> {
        if let Some(tenant) = self.inner.find(id) {
            return Ok(tenant);
        }
        match self.create(id, properties).await {
            Err(Error::TenantExists { .. }) => self.get(id).await,
            other => other,
        }
    }

    /// Says that the store has files of a tenant that has no file here: until it is created, which gives it this storage
    /// path, or removed, it is there and disabled. A tenant that has a file stays as it is; says whether this one has not.
    pub fn note_lost(&self, id: &TenantId, storage_path: StoragePath) -> bool {
        let mut known = self.inner.known.write();
        if known.tenants.contains_key(id) {
            return false;
        }
        let now = self.inner.clock.wall();
        let tenant = Tenant {
            id: id.clone(),
            status: TenantStatus::Disabled,
            created_at: now,
            updated_at: now,
            properties: Properties::new(),
            weight: 1,
            storage_path,
        };
        known.tenants.insert(id.clone(), Arc::new(tenant));
        known.lost.insert(id.clone());
        true
    }

    /// The right to remove a tenant. Nothing is changed yet.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::TenantLeaving`] when somebody else removes it.
    pub fn begin_removal(&self, id: &TenantId) -> Result<Removal> {
        let removal =
            self.inner.removals.begin(id).ok_or_else(|| Error::TenantLeaving { tenant: id.clone() })?;
        // Looked up afterwards: somebody else may just have come to an end.
        self.inner.find(id).map(|_| removal).ok_or_else(|| Error::TenantNotFound { tenant: id.clone() })
    }

    /// Removes a tenant, durably. One that is created later, of this name or another, gets a storage path that none had.
    /// `held` is dropped when that is over, one way or the other.
    ///
    /// # Errors
    /// [`Error::Io`]: the tenant is then still there, or gone where only the disk failed to say whether that is durable.
    ///
    /// # Cancel safety
    /// A removal that was begun is made even when its future is dropped.
    pub async fn remove(&self, removal: Removal, held: impl Send + 'static) -> Result<()> {
        self.alone(move |inner| {
            let _held = held;
            inner.remove_tenant(&removal)
        })
        .await
    }

    /// Runs `change` alone and where blocking is allowed. It runs to its end even when the caller's future is dropped.
    async fn alone<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.inner.changing).lock_owned().await;
        let inner = Arc::clone(&self.inner);
        off_thread(&*self.inner.disk, move || {
            let _turn = turn;
            change(&inner)
        })
        .await
    }
}

#[async_trait]
impl TenantManager for TenantDirectory {
    async fn create(&self, id: &TenantId, properties: Properties) -> Result<Arc<Tenant>> {
        Tenant::check_properties(&properties)?;
        let id = id.clone();
        self.alone(move |inner| inner.create(id, properties)).await
    }

    async fn try_get(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>> {
        Ok(self.inner.find(id))
    }

    async fn list(&self) -> Result<Vec<Arc<Tenant>>> {
        let mut all: Vec<_> = self.inner.known.read().tenants.values().cloned().collect();
        all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    async fn set_status(&self, id: &TenantId, status: TenantStatus) -> Result<Arc<Tenant>> {
        let id = id.clone();
        self.alone(move |inner| {
            let leaves = status == TenantStatus::Disabled;
            let tenant = inner.alter(id, leaves, |tenant| tenant.status = status)?;
            info!(tenant = %tenant.id, %status, "tenant status set");
            Ok(tenant)
        })
        .await
    }

    async fn set_properties(&self, id: &TenantId, properties: Properties) -> Result<Arc<Tenant>> {
        Tenant::check_properties(&properties)?;
        let id = id.clone();
        self.alone(move |inner| inner.alter(id, false, |tenant| tenant.properties = properties)).await
    }

    async fn set_weight(&self, id: &TenantId, weight: u32) -> Result<Arc<Tenant>> {
        Tenant::check_weight(weight)?;
        let id = id.clone();
        self.alone(move |inner| inner.alter(id, false, |tenant| tenant.weight = weight)).await
    }

    fn check(&self, id: &TenantId, access: TenantAccess) -> Result<Arc<Tenant>> {
        let tenant = self.inner.find(id).ok_or_else(|| Error::TenantNotFound { tenant: id.clone() })?;
        tenant.check(access)?;
        Ok(tenant)
    }

    fn is_known(&self, id: &TenantId) -> bool {
        self.inner.known.read().tenants.contains_key(id)
    }
}

impl Inner {
    fn find(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.known.read().tenants.get(id).cloned()
    }

    fn path(&self, id: &TenantId) -> PathBuf {
        self.dir.join(format!("{id}{SUFFIX}"))
    }

    /// The storage path of a new tenant. The number of removals tells it from every earlier one of its name: between two
    /// tenants of one name, at least the first of them was removed.
    fn storage_path(&self, id: &TenantId) -> Result<StoragePath> {
        let known = self.known.read();
        if let Some(lost) = known.tenants.get(id).filter(|_| known.lost.contains(id)) {
            return Ok(lost.storage_path.clone());
        }
        match known.removed {
            _ if known.tenants.contains_key(id) => Err(Error::TenantExists { tenant: id.clone() }),
            0 => Ok(StoragePath::from(id)),
            removed => Ok(StoragePath::incarnation(id, removed)),
        }
    }

    fn create(&self, id: TenantId, properties: Properties) -> Result<Arc<Tenant>> {
        let storage_path = self.storage_path(&id)?;
        if self.removals.contains(&id) {
            return Err(Error::TenantLeaving { tenant: id });
        }
        let now = self.clock.wall();
        let tenant = Tenant {
            id,
            status: TenantStatus::Enabled,
            created_at: now,
            updated_at: now,
            properties,
            weight: 1,
            storage_path,
        };
        let path = self.path(&tenant.id);
        let tenant = self.keep(tenant).inspect_err(|_| self.remove(&path))?;
        info!(tenant = %tenant.id, storage_path = %tenant.storage_path, "tenant created");
        Ok(tenant)
    }

    /// Changes a tenant; one that is being removed only when that `leaves` it on its way.
    fn alter(&self, id: TenantId, leaves: bool, change: impl FnOnce(&mut Tenant)) -> Result<Arc<Tenant>> {
        let Some(old) = self.find(&id) else { return Err(Error::TenantNotFound { tenant: id }) };
        if !leaves && self.removals.contains(&id) {
            return Err(Error::TenantLeaving { tenant: id });
        }
        let mut tenant = Tenant::clone(&old);
        change(&mut tenant);
        if tenant == *old {
            return Ok(old);
        }
        if self.known.read().lost.contains(&id) {
            return Err(Error::TenantLost { tenant: id });
        }
        tenant.updated_at = self.clock.wall();
        self.keep(tenant)
    }

    /// The number first: once the tenant is gone, none of its name gets its storage path.
    fn remove_tenant(&self, removal: &Removal) -> Result<()> {
        let id = removal.tenant();
        let before = self.known.read().removed;
        let removed = before.checked_add(1).ok_or(Error::TooLarge {
            what: "number of removed tenants",
            size: u64::from(before) + 1,
            limit: u64::from(u32::MAX),
        })?;
        replace(&*self.disk, &self.dir.join(removed::NAME), &removed::encode(removed))?;
        self.known.write().removed = removed;
        let path = self.path(id);
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", path)(error));
            }
            _ => {}
        }
        // Told only when it is durable, and believed at once: what was forgotten of it would be missed.
        let synced = sync_dir(&*self.disk, &self.dir, Site::RemovedName);
        let mut known = self.known.write();
        known.tenants.remove(id);
        known.lost.remove(id);
        drop(known);
        info!(tenant = %id, "tenant removed");
        synced.map_err(Error::io("sync", &self.dir))
    }

    /// Removes what a failed create may have left under the tenant's name.
    fn remove(&self, path: &Path) {
        if let Err(error) = self.disk.remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(path = %path.display(), %error, "file of a tenant that was not created may remain");
        }
    }

    /// Disk first, memory second: what is in force is durable.
    fn keep(&self, tenant: Tenant) -> Result<Arc<Tenant>> {
        replace(&*self.disk, &self.path(&tenant.id), &record::encode(&tenant))?;
        let tenant = Arc::new(tenant);
        let mut known = self.known.write();
        known.tenants.insert(tenant.id.clone(), Arc::clone(&tenant));
        known.lost.remove(&tenant.id);
        drop(known);
        Ok(tenant)
    }
}

/// The files of tenants in `dir`, and their names; none when there is no such directory.
fn files(disk: &dyn Disk, dir: &Path) -> Result<Vec<(PathBuf, String)>> {
    let entries = match disk.read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("list", dir))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", dir))?;
        // What a killed replace left ends otherwise; nothing else is ours.
        let Some(name) = entry.name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else { continue };
        if entry.kind == EntryKind::File {
            files.push((dir.join(&entry.name), name.to_owned()));
        }
    }
    Ok(files)
}

/// Writes a file for each tenant, and how many were removed, and makes all of it durable.
fn write_all(disk: &dyn Disk, dir: &Path, tenants: &[Arc<Tenant>], removed: u32) -> Result<()> {
    create_dirs(disk, dir)?;
    let each = tenants.iter().map(|tenant| (format!("{}{SUFFIX}", tenant.id), record::encode(tenant)));
    let count = (removed > 0).then(|| (removed::NAME.to_owned(), removed::encode(removed)));
    for (name, bytes) in each.chain(count) {
        let path = dir.join(name);
        let file = disk.create_new(&path).map_err(Error::io("create", &path))?;
        file.write_at(&bytes, 0).map_err(Error::io("write", &path))?;
        sync_data(&*file, Site::CopiedContent).map_err(Error::io("sync", &path))?;
    }
    sync_dir(disk, dir, Site::CopiedName).map_err(Error::io("sync", dir))
}

/// The tenant `name` in the file at `path`; `None` when the file is gone.
fn read_tenant(disk: &dyn Disk, path: PathBuf, name: &str) -> Result<Option<Tenant>> {
    let Some(bytes) = read_bounded(disk, &path, record::FILE_BYTES_MAX)? else { return Ok(None) };
    let tenant = record::decode(&path, &bytes)?;
    if tenant.id.as_str() != name {
        return Err(Error::Corrupt {
            place: path.display().to_string(),
            why: format!("it holds tenant {}", tenant.id).into(),
        });
    }
    Ok(Some(tenant))
}
