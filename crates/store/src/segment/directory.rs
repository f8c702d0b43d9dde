//! Where the segments of a node's children are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sortie_model::{ChildKey, JobInstance, Ordinal, Seq};
use uuid::Uuid;

use crate::disk::{Disk, Names};
use crate::segment::error::{SegmentError, SegmentStep};

const EXTENSION: &str = ".segment";
/// Children whose segments lie in one directory.
const BUCKET: u32 = 1_024;

/// What one step of a removal left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// All is gone.
    All,
    /// There is more to remove.
    More,
}

/// Which of some neighbouring children have output on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbours {
    job: JobInstance,
    bucket: u32,
    with_output: BTreeSet<Ordinal>,
}

impl Neighbours {
    /// Whether that child has any; none if it is no neighbour.
    pub fn has_output(&self, child: ChildKey) -> Option<bool> {
        let is_here = child.job == self.job && child.ordinal.0 / BUCKET == self.bucket;
        is_here.then(|| self.with_output.contains(&child.ordinal))
    }
}

/// The directory with the output of a node's persistent sessions. Clones are the same one.
#[derive(Debug, Clone)]
pub struct OutputDirectory {
    disk: Arc<dyn Disk>,
    root: Arc<Path>,
}

impl OutputDirectory {
    /// Makes nothing on the disk.
    pub fn new(disk: Arc<dyn Disk>, root: &Path) -> Self {
        Self { disk, root: root.into() }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The jobs that have output here, one by one, in no order. Names that are none of ours are
    /// left out.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; a directory that is not there has no jobs.
    pub fn jobs(&self) -> Result<impl Iterator<Item = JobInstance> + use<>, SegmentError> {
        let names = self.list(&self.root)?;
        Ok(names.filter_map(|name| {
            let name = name.ok()?;
            let uuid = Uuid::try_parse(name.to_str().filter(|name| name.len() == 32)?).ok()?;
            Some(JobInstance(uuid))
        }))
    }

    /// Whether a child of the job may have output here.
    ///
    /// # Errors
    /// [`SegmentError::Io`]: that cannot be seen now.
    pub fn has_job(&self, job: JobInstance) -> Result<bool, SegmentError> {
        self.list(&self.job(job)).map(|mut names| names.next().is_some())
    }

    /// Removes output of a job, at most `most` files of it: a job of a million children is removed
    /// in steps.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; what was removed is gone.
    pub fn remove_job(&self, job: JobInstance, most: usize) -> Result<Swept, SegmentError> {
        let directory = self.job(job);
        let failed = |file: &Path, error| SegmentError::io(SegmentStep::Remove, file, error);
        let mut left = most;
        for bucket in self.list(&directory)? {
            let bucket = directory.join(bucket.map_err(|error| failed(&directory, error))?);
            for file in self.list(&bucket)? {
                if left == 0 {
                    return Ok(Swept::More);
                }
                let file = bucket.join(file.map_err(|error| failed(&bucket, error))?);
                self.disk.remove(&file).map_err(|error| failed(&file, error))?;
                left -= 1;
            }
            self.disk.remove_directory(&bucket).map_err(|error| failed(&bucket, error))?;
        }
        self.disk.remove_directory(&directory).map_err(|error| failed(&directory, error))?;
        Ok(Swept::All)
    }

    /// Looks for the output of a child and of its neighbours, at once: of a million children that
    /// have none, one in a thousand is looked for.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; a directory that is not there has no output.
    pub fn neighbours(&self, child: ChildKey) -> Result<Neighbours, SegmentError> {
        let bucket = self.bucket(child);
        let mut with_output = BTreeSet::new();
        for name in self.list(&bucket)? {
            let name = name.map_err(|error| SegmentError::io(SegmentStep::List, &bucket, error))?;
            with_output.extend(name.to_str().and_then(parse_name).map(|(ordinal, _)| ordinal));
        }
        Ok(Neighbours { job: child.job, bucket: child.ordinal.0 / BUCKET, with_output })
    }

    fn list(&self, directory: &Path) -> Result<Names, SegmentError> {
        let names = self.disk.list(directory);
        names.map_err(|error| SegmentError::io(SegmentStep::List, directory, error))
    }

    fn job(&self, job: JobInstance) -> PathBuf {
        self.root.join(job.0.simple().to_string())
    }

    /// Where the segments of a child are, with those of its neighbours.
    pub(crate) fn bucket(&self, child: ChildKey) -> PathBuf {
        self.job(child.job).join(format!("{:06x}", child.ordinal.0 / BUCKET))
    }

    pub(crate) fn segment(&self, child: ChildKey, first: Seq) -> PathBuf {
        let name = format!("{:08x}-{:016x}{EXTENSION}", child.ordinal.0, first.0);
        self.bucket(child).join(name)
    }

    /// The first numbers of a child's segments, ascending.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; a directory that is not there has no segments.
    pub(crate) fn segments(&self, child: ChildKey) -> Result<Vec<Seq>, SegmentError> {
        let bucket = self.bucket(child);
        let mut firsts = Vec::new();
        for name in self.list(&bucket)? {
            let name = name.map_err(|error| SegmentError::io(SegmentStep::List, &bucket, error))?;
            let place = name.to_str().and_then(parse_name);
            firsts.extend(place.filter(|(ordinal, _)| *ordinal == child.ordinal).map(|at| at.1));
        }
        firsts.sort_unstable();
        Ok(firsts)
    }
}

fn parse_name(name: &str) -> Option<(Ordinal, Seq)> {
    let (ordinal, first) = name.strip_suffix(EXTENSION)?.split_once('-')?;
    let exact = ordinal.len() == 8 && first.len() == 16;
    let ordinal = u32::from_str_radix(ordinal, 16).ok().filter(|_| exact)?;
    Some((Ordinal(ordinal), Seq(u64::from_str_radix(first, 16).ok()?)))
}
