//! A directory of tenants.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use locus_core::{
    Clock, Error, NewFile, Properties, Result, Site, StoragePath, Tenant, TenantAccess, TenantId,
    TenantManager, TenantStatus,
};
use locus_fs::{Disk, EntryKind, create_dirs, off_thread, read_bounded, replace, sync_data, sync_dir};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tracing::{info, warn};

use crate::record;

/// What a tenant's file is called after the tenant's name.
const SUFFIX: &str = ".tenant";

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
    known: RwLock<HashMap<TenantId, Arc<Tenant>>>,
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
        let known = tenants.into_iter().map(|tenant| (tenant.id.clone(), Arc::new(tenant))).collect();
        let inner = Inner { disk, clock, dir, known: RwLock::new(known), changing: Arc::new(Mutex::new(())) };
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
        let known: Vec<_> = self.inner.known.read().values().cloned().collect();
        write_all(&*self.inner.disk, dir, &known)
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
        damaged.sort_unstable();
        write_all(disk, to, &good)?;
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
        NewFile::check_names(None, &properties, None)?; // the bound on properties is the same
        let id = id.clone();
        self.alone(move |inner| inner.create(id, properties)).await
    }

    async fn try_get(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>> {
        Ok(self.inner.find(id))
    }

    async fn list(&self) -> Result<Vec<Arc<Tenant>>> {
        let mut all: Vec<_> = self.inner.known.read().values().cloned().collect();
        all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    async fn set_status(&self, id: &TenantId, status: TenantStatus) -> Result<Arc<Tenant>> {
        let id = id.clone();
        self.alone(move |inner| inner.set_status(id, status)).await
    }

    fn check(&self, id: &TenantId, access: TenantAccess) -> Result<Arc<Tenant>> {
        let tenant = self.inner.find(id).ok_or_else(|| Error::TenantNotFound { tenant: id.clone() })?;
        tenant.check(access)?;
        Ok(tenant)
    }

    fn is_known(&self, id: &TenantId) -> bool {
        self.inner.known.read().contains_key(id)
    }
}

impl Inner {
    fn find(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.known.read().get(id).cloned()
    }

    fn path(&self, id: &TenantId) -> PathBuf {
        self.dir.join(format!("{id}{SUFFIX}"))
    }

    fn create(&self, id: TenantId, properties: Properties) -> Result<Arc<Tenant>> {
        if self.find(&id).is_some() {
            return Err(Error::TenantExists { tenant: id });
        }
        let now = self.clock.wall();
        let tenant = Tenant {
            storage_path: StoragePath::from(&id),
            id,
            status: TenantStatus::Enabled,
            created_at: now,
            updated_at: now,
            properties,
            weight: 1,
        };
        let path = self.path(&tenant.id);
        let tenant = self.keep(tenant).inspect_err(|_| self.remove(&path))?;
        info!(tenant = %tenant.id, "tenant created");
        Ok(tenant)
    }

    fn set_status(&self, id: TenantId, status: TenantStatus) -> Result<Arc<Tenant>> {
        let old = self.find(&id).ok_or(Error::TenantNotFound { tenant: id })?;
        if old.status == status {
            return Ok(old);
        }
        let tenant = self.keep(Tenant { status, updated_at: self.clock.wall(), ..Tenant::clone(&old) })?;
        info!(tenant = %tenant.id, %status, "tenant status changed");
        Ok(tenant)
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
        self.known.write().insert(tenant.id.clone(), Arc::clone(&tenant));
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

/// Writes a file for each tenant, and makes all of them durable.
fn write_all(disk: &dyn Disk, dir: &Path, tenants: &[Arc<Tenant>]) -> Result<()> {
    create_dirs(disk, dir)?;
    for tenant in tenants {
        let path = dir.join(format!("{}{SUFFIX}", tenant.id));
        let file = disk.create_new(&path).map_err(Error::io("create", &path))?;
        file.write_at(&record::encode(tenant), 0).map_err(Error::io("write", &path))?;
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
