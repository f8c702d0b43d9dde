//! Mailboxes that outlive their daemon, on a real disk that can refuse and forget.

mod crashes;
mod disk;
mod ends;
mod refusals;
mod returning;

use std::sync::atomic::AtomicU64;

use sortie_engine::mailbox::OutputPolicy;
use sortie_model::record::OutputRule;
use sortie_model::spec::BodySpec;
use sortie_model::view::Kind;
use sortie_model::{ChildKey, EntryId, JobInstance, JobSpec, SessionId, SessionInstance};
use sortie_store::Store;
use sortie_store::journal::{
    Change, Cursor, Durability, JobEntry, JobFacts, JobPlan, JournalBounds, JournalError, NewJob,
    SessionEntry, SpecDigest,
};
use sortie_store::segment::Taken;

use super::*;
use disk::TestDisk;

const MIB: usize = 1 << 20;
const SESSION: SessionInstance = SessionInstance(uuid::Uuid::from_u128(1));
const JOB: JobInstance = JobInstance(uuid::Uuid::from_u128(1_000));

/// A daemon's life: what it has in memory, and a runtime that ends with it.
struct Life {
    runtime: Option<tokio::runtime::Runtime>,
    store: Arc<Store>,
    pool: Arc<MailboxPool>,
    job: Option<Arc<JobMailboxes>>,
    told: Arc<Told>,
}

/// What the listener was told, for a few children.
#[derive(Default)]
struct Told([AtomicU64; 8]);

impl Told {
    fn of(&self, child: Ordinal) -> Seq {
        Seq(self.0[child.0 as usize].load(Ordering::Relaxed))
    }
}

fn session() -> SessionEntry {
    SessionEntry {
        id: SessionId(1),
        instance: SESSION,
        name: "kept".to_owned(),
        owner: "ann".to_owned(),
        created: Timestamp(5),
        next_id: EntryId(1),
        epoch: 0,
        idle_timeout: None,
        disconnected: None,
        output: OutputRule::default(),
        directory: None,
        environment: Vec::new(),
    }
}

fn new_job() -> NewJob {
    let entry = JobEntry {
        id: EntryId(1),
        instance: JOB,
        name: "Job1".to_owned(),
        command: "true".to_owned(),
        kind: Kind::Background,
        created: Timestamp(7),
        known_children: 8,
        facts: JobFacts::default(),
    };
    let body = BodySpec::Script { text: Bytes::from_static(b"true"), arguments: Vec::new() };
    let plan = JobPlan { spec: JobSpec::new("true", body), nodes: Vec::new() };
    let key = "key".to_owned().try_into().unwrap();
    let (digest, children) = (SpecDigest::of(&plan.spec).expect("short"), Vec::new());
    let (of_all, next_id) = (digest, EntryId(10));
    NewJob { session: SESSION, key, entry, plan, digest, of_all, children, next_id }
}

fn small() -> PoolBounds {
    PoolBounds { mailbox_memory: 20_000, node_memory: 200_000, ..PoolBounds::default() }
}

impl Life {
    fn begin(disk: &TestDisk) -> Self {
        Self::with_policy(disk, small(), OutputPolicy::Block)
    }

    fn with_policy(disk: &TestDisk, bounds: PoolBounds, policy: OutputPolicy) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let journal = JournalBounds { reserve: 1 << 16, cache: 1 << 20 };
        let store = Store::open_on(Arc::new(disk.clone()), &disk.path().join("state"), journal);
        let store = Arc::new(store.unwrap());
        let spill = disk.path().join("spill");
        let pool = MailboxPool::with_bounds(spill, bounds);
        let told = Arc::new(Told::default());
        let listener = Arc::clone(&told);
        let stored: StoredListener = Arc::new(move |child: ChildKey, upto| {
            assert_eq!(child.job, JOB);
            if let Some(told) = listener.0.get(child.ordinal.0 as usize) {
                told.fetch_max(upto.0, Ordering::Relaxed);
            }
        });
        let backing = Backing { store: Arc::clone(&store), job: JOB, stored: Some(stored) };
        let rule = OutputRule { policy, ..OutputRule::default() };
        let job = JobMailboxes::backed(Arc::clone(&pool), rule, backing);
        let life = Self { runtime: Some(runtime), store, pool, job: Some(job), told };
        if life.store.journal().session(SESSION).unwrap().is_none() {
            life.change(vec![Change::SessionOpened(Box::new(session()))]);
            let (tell, told) = std::sync::mpsc::channel();
            life.store.journal().start(new_job(), move |done| tell.send(done).unwrap()).unwrap();
            told.recv().unwrap().unwrap();
        }
        life
    }

    fn job(&self) -> Arc<JobMailboxes> {
        Arc::clone(self.job.as_ref().unwrap())
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(soon(work))
    }

    fn change(&self, changes: Vec<Change>) {
        let (tell, told) = std::sync::mpsc::channel();
        let done = move |done: Result<(), JournalError>| tell.send(done).unwrap();
        self.store.journal().change(changes, Durability::Durable, done).unwrap();
        told.recv().unwrap().unwrap();
    }

    /// The journal gets the cursors that moved.
    fn commit_cursors(&self) -> Vec<(Ordinal, Cursor)> {
        let cursors = self.job().take_moved(usize::MAX);
        self.change(vec![Change::CursorsMoved { job: JOB, cursors: cursors.clone() }]);
        let _inside = self.runtime.as_ref().unwrap().enter();
        self.job().cursors_committed(&cursors);
        cursors
    }

    /// The child ends: what it leaves is stored, and the journal has it.
    fn end(&self, child: Ordinal) -> Persisted {
        let job = self.job();
        let persisted = self.run(async { job.persist(child).await });
        if let Persisted::Inline(block) = &persisted {
            let outputs = vec![(child, block.clone())];
            self.change(vec![Change::OutputStored { job: JOB, outputs }]);
        }
        job.close(child);
        persisted
    }

    /// The mailbox as it was, from what the journal has.
    fn restore(&self, child: Ordinal, closed: bool) -> Result<(), RestoreError> {
        let cursors = self.store.journal().cursors(JOB, child, 1).unwrap();
        let mut cursors = cursors.into_iter().filter(|(ordinal, _)| *ordinal == child);
        let cursor = cursors.next().map(|(_, cursor)| cursor).unwrap_or_default();
        let inline = self.store.journal().outputs(JOB, child, 1).unwrap();
        let inline = inline.into_iter().find(|(ordinal, _)| *ordinal == child).map(|found| found.1);
        let job = self.job();
        self.run(async { job.restore(child, cursor, inline, closed).await })
    }

    fn add(&self, child: Ordinal, records: Vec<Record>) {
        let job = self.job();
        self.run(async { job.add(child, records).await });
    }

    fn take(&self, child: Ordinal, streams: StreamSet) -> Vec<Record> {
        let job = self.job();
        self.run(async { job.take(child, streams).await })
    }

    fn kept(&self, child: Ordinal) -> Vec<Record> {
        let job = self.job();
        self.run(async { job.kept(child, ALL).await })
    }

    /// Waits until the listener knows.
    fn until_told(&self, child: Ordinal, upto: u64) {
        self.run(until(|| self.told.of(child) >= Seq(upto)));
    }
}

/// A daemon that ends, and what it had in memory with it; files are as they are.
impl Drop for Life {
    fn drop(&mut self) {
        self.job = None;
        self.runtime = None;
    }
}

fn files(disk: &TestDisk) -> usize {
    disk.files(&disk.path().join("state/output"))
}

fn with_seqs(mut records: Vec<Record>, first: u64) -> Vec<Record> {
    for (record, seq) in records.iter_mut().zip(first..) {
        record.seq = Seq(seq);
    }
    records
}
