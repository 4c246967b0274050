//! Scenarios of the cache model (design cache-model.md, "What must hold"), and a simulation of random graphs.

use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use buildd_api::buildkit::pb;
use buildd_oci::{ErrorKind, digest::Digest};
use prost::Message;

use super::{Job, Solver, SolverOptions};
use crate::{
    cache::memory::MemoryStore,
    graph::Vertex,
    op::{CacheMap, InputKey, Op, OpContext, OpError, OpResolver},
    result::{OpResult, ResultHandle},
};

mod crowd;
mod large;
mod share;
mod sim;

/// A result is a text.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

impl ResultHandle for Text {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

pub(super) fn text(result: &OpResult) -> String {
    result.as_any().downcast_ref::<Text>().expect("ours").0.clone()
}

/// What a fake vertex does.
#[derive(Clone, Debug, Default)]
pub(super) struct Fake {
    /// Name of the op in keys.
    pub(super) op: String,
    /// What it gives; empty: the op's name over its inputs.
    pub(super) value: String,
    /// Its inputs: index of the vertex, and the selector of a content input.
    pub(super) inputs: Vec<(usize, Option<String>)>,
    pub(super) forced: bool,
    pub(super) fails: bool,
    pub(super) delay: Duration,
    pub(super) aliases: Vec<String>,
    /// Gives something else each time it runs; with a value: one of its letters.
    pub(super) random: bool,
    /// How often it lets others go first whenever it is asked for something.
    pub(super) yields: usize,
    /// How many outputs it has beside the first; its readers read one after the other.
    pub(super) more_outputs: u32,
}

/// A run that came to its end: what ran, on what it saw, and what came out.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) op: String,
    pub(super) seen: Vec<String>,
    pub(super) out: String,
}

#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) runs: Mutex<Vec<Run>>,
    fakes: Mutex<HashMap<Digest, Fake>>,
    pub(super) execs: AtomicUsize,
    pub(super) running: AtomicUsize,
}

impl World {
    /// Encodes a graph; the last fake is the target.
    pub(super) fn definition(&self, fakes: &[Fake]) -> pb::Definition {
        let mut raws: Vec<Vec<u8>> = Vec::new();
        let mut definition = pb::Definition::default();
        for (number, fake) in fakes.iter().enumerate() {
            let mut read: HashMap<usize, u32> = HashMap::new();
            let input = |(index, _): &(usize, Option<String>)| {
                let times = read.entry(*index).or_default();
                let output = (*times).min(fakes[*index].more_outputs);
                *times += 1;
                pb::Input { digest: Digest::of(&raws[*index]).to_string(), index: output.into() }
            };
            let identifier = format!("{number} {fake:?}");
            let op = pb::op::Op::Source(pb::SourceOp { identifier, ..Default::default() });
            let inputs = fake.inputs.iter().map(input).collect();
            let raw = pb::Op { inputs, op: Some(op), ..Default::default() }.encode_to_vec();
            let digest = Digest::of(&raw);
            let metadata = pb::OpMetadata { ignore_cache: fake.forced, ..Default::default() };
            definition.metadata.insert(digest.to_string(), metadata);
            self.fakes.lock().expect("no panic").insert(digest, fake.clone());
            raws.push(raw);
        }
        let last = pb::Input { digest: Digest::of(raws.last().expect("a target")).to_string(), index: 0 };
        raws.push(pb::Op { inputs: vec![last], ..Default::default() }.encode_to_vec());
        definition.def = raws;
        definition
    }
}

#[derive(Debug)]
struct FakeOp {
    fake: Fake,
    world: Arc<World>,
}

impl FakeOp {
    async fn dawdle(&self) {
        for _ in 0..self.fake.yields {
            tokio::task::yield_now().await;
        }
    }
}

#[derive(Debug)]
struct Resolver(Arc<World>);

impl OpResolver for Resolver {
    fn resolve(&self, vertex: &Vertex) -> Result<Arc<dyn Op>, OpError> {
        let fake = self.0.fakes.lock().expect("no panic")[&vertex.digest].clone();
        Ok(Arc::new(FakeOp { fake, world: self.0.clone() }))
    }
}

struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("it failed")]
struct Failed;

#[async_trait]
impl Op for FakeOp {
    async fn cache_map(&self, _: &OpContext) -> Result<CacheMap, OpError> {
        self.dawdle().await;
        let input = |(_, selector): &(usize, Option<String>)| match selector {
            None => InputKey::Definition,
            Some(selector) => InputKey::Content { selector: selector.clone() },
        };
        Ok(CacheMap {
            digest: Digest::of(self.fake.op.as_bytes()),
            aliases: self.fake.aliases.iter().map(|alias| Digest::of(alias.as_bytes())).collect(),
            inputs: self.fake.inputs.iter().map(input).collect(),
        })
    }

    async fn content_digest(
        &self,
        _: &OpContext,
        input: usize,
        result: &OpResult,
    ) -> Result<Digest, OpError> {
        self.dawdle().await;
        let selector = self.fake.inputs[input].1.as_deref().expect("a content input");
        Ok(Digest::of(selected(selector, &text(result)).as_bytes()))
    }

    async fn exec(&self, _: &OpContext, inputs: &[OpResult]) -> Result<Vec<OpResult>, OpError> {
        self.world.execs.fetch_add(1, Ordering::SeqCst);
        self.world.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(&self.world.running);
        if !self.fake.delay.is_zero() {
            tokio::time::sleep(self.fake.delay).await;
        }
        self.dawdle().await;
        if self.fake.fails {
            return Err(OpError::new(ErrorKind::Unknown, Failed));
        }
        let inputs: Vec<String> = inputs.iter().map(text).collect();
        let mut out = value(&self.fake, &inputs);
        let mut runs = self.world.runs.lock().expect("no panic");
        if self.fake.random {
            let unlike = Digest::of(format!("{out} {}", runs.len()).as_bytes());
            let choice = usize::from(unlike.as_bytes()[unlike.as_bytes().len() - 1]) % out.len();
            out = if self.fake.value.is_empty() { unlike.short() } else { out[choice..=choice].to_owned() };
        }
        runs.push(Run { op: self.fake.op.clone(), seen: seen(&self.fake, &inputs), out: out.clone() });
        Ok((0..=self.fake.more_outputs).map(|_| Arc::new(Text(out.clone())) as OpResult).collect())
    }
}

/// What a selector sees of a value: `head` its first byte, all else everything.
pub(super) fn selected(selector: &str, value: &str) -> String {
    if selector == "head" { value.chars().take(1).collect() } else { value.to_owned() }
}

/// What a fake gives for the values of its inputs; of a content input it sees only the selected part.
pub(super) fn value(fake: &Fake, inputs: &[String]) -> String {
    if !fake.value.is_empty() {
        return fake.value.clone();
    }
    Digest::of(format!("{}({})", fake.op, seen(fake, inputs).join(",")).as_bytes()).short()
}

/// What a fake sees of the values of its inputs.
fn seen(fake: &Fake, inputs: &[String]) -> Vec<String> {
    let seen = |((_, selector), value): (&(usize, Option<String>), &String)| {
        selector.as_ref().map_or_else(|| value.clone(), |s| selected(s, value))
    };
    fake.inputs.iter().zip(inputs).map(seen).collect()
}

pub(super) struct Bench {
    pub(super) world: Arc<World>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) solver: Arc<Solver>,
    /// Whether all that ran gives the same each time.
    pub(super) pure: bool,
}

impl Bench {
    pub(super) fn new() -> Self {
        let (world, store) = (Arc::new(World::default()), Arc::new(MemoryStore::default()));
        let resolver = Arc::new(Resolver(world.clone()));
        let options = SolverOptions { store: store.clone(), resolver, max_parallelism: 4 };
        Self { world, store, solver: Solver::new(options), pure: true }
    }

    pub(super) fn job(&self) -> Arc<Job> {
        let (job, mut events) = self.solver.job("session");
        tokio::spawn(async move { while events.recv().await.is_some() {} });
        job
    }

    /// Builds in a job of its own: the value and how often something ran.
    async fn build(&self, fakes: &[Fake]) -> (String, usize) {
        let before = self.world.execs.load(Ordering::SeqCst);
        let definition = self.world.definition(fakes);
        let result = self.job().build(&definition).await.expect("a build").expect("a target");
        (text(&result), self.world.execs.load(Ordering::SeqCst) - before)
    }
}

fn fake(op: &str, value: &str) -> Fake {
    Fake { op: op.to_owned(), value: value.to_owned(), ..Fake::default() }
}

impl Fake {
    fn on(mut self, input: usize) -> Self {
        self.inputs.push((input, None));
        self
    }

    fn reads(mut self, input: usize, selector: &str) -> Self {
        self.inputs.push((input, Some(selector.to_owned())));
        self
    }

    fn forced(mut self) -> Self {
        self.forced = true;
        self
    }
}

fn gave(value: &str, execs: usize) -> (String, usize) {
    (value.to_owned(), execs)
}

#[tokio::test]
async fn a_consumer_of_a_forced_vertex_runs_again() {
    let bench = Bench::new();
    assert_eq!(bench.build(&[fake("s1", "r1"), fake("s0", "r0").on(0)]).await, gave("r0", 2));
    assert_eq!(bench.build(&[fake("s1", "r1"), fake("s0", "no").on(0)]).await, gave("r0", 0));
    assert_eq!(
        bench.build(&[fake("s1", "r1").forced(), fake("s0", "r0-1").on(0).forced()]).await,
        gave("r0-1", 2)
    );
    assert_eq!(bench.build(&[fake("s1", "r1").forced(), fake("s0", "r0-2").on(0)]).await, gave("r0-2", 2));
    assert_eq!(
        bench.build(&[fake("s1", "x"), fake("s0", "y").on(0)]).await,
        gave("r0-2", 0),
        "the newest wins"
    );
}

#[tokio::test]
async fn an_unchanged_content_input_is_not_made_again() {
    let bench = Bench::new();
    let two = |a: &str, b: &str, value: &str| {
        [fake(a, "r1"), fake(b, "r2"), fake("s0", value).reads(0, "").reads(1, "")]
    };
    assert_eq!(bench.build(&two("s1", "s2", "r0")).await, gave("r0", 3));
    assert_eq!(bench.build(&two("s1", "s2c", "no")).await, gave("r0", 1));
    assert_eq!(bench.build(&two("s1c2", "s2c2", "no")).await, gave("r0", 2));
}

#[tokio::test]
async fn content_decides_where_the_definition_changed() {
    let bench = Bench::new();
    let one = |op: &str, value: &str| [fake(op, "r1"), fake("s0", value).reads(0, "")];
    assert_eq!(bench.build(&one("s1", "r0")).await, gave("r0", 2));
    assert_eq!(bench.build(&one("s9", "no")).await, gave("r0", 1));
    assert_eq!(bench.build(&[fake("s1", "r1").forced(), fake("s0", "no").reads(0, "")]).await, gave("r0", 1));
    assert_eq!(bench.build(&[fake("s1", "r1"), fake("s0", "no").reads(0, "other")]).await, gave("r0", 0));
}

#[tokio::test]
async fn any_of_several_source_keys_matches() {
    let bench = Bench::new();
    let source = |op: &str, value: &str, aliases: &[&str]| Fake {
        aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
        ..fake(op, value)
    };
    assert_eq!(bench.build(&[source("a", "r0", &["b", "c"])]).await, gave("r0", 1));
    assert_eq!(bench.build(&[source("z", "no", &["c"])]).await, gave("r0", 0));
}

#[tokio::test]
async fn a_result_is_never_saved_under_a_stale_key() {
    let bench = Bench::new();
    let copy = |n: u8| {
        [
            fake("base", "b"),
            fake("run", &format!("out-{n}")),
            fake("copy", &format!("image-of-{n}")).on(0).reads(1, ""),
        ]
    };
    assert_eq!(bench.build(&copy(1)).await, gave("image-of-1", 3));
    bench.store.drop_bytes(|result| text(result) != "b");
    assert_eq!(
        bench.build(&copy(2)).await,
        gave("image-of-2", 2),
        "the memo says out-1, the step now gives out-2"
    );
    assert_eq!(bench.build(&copy(3)).await, gave("image-of-2", 0));
}

#[tokio::test]
async fn equal_work_of_two_jobs_runs_once() {
    let bench = Bench::new();
    let slow = Fake { delay: Duration::from_millis(50), ..fake("slow", "v") };
    let definition = bench.world.definition(&[slow]);
    let (one, two) = (bench.job(), bench.job());
    let (a, b) = tokio::join!(one.build(&definition), two.build(&definition));
    assert_eq!(
        (text(&a.expect("ok").expect("one")), text(&b.expect("ok").expect("one"))),
        ("v".into(), "v".into())
    );
    assert_eq!(bench.world.execs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_first_to_leave_does_not_cancel_and_the_last_does() {
    let bench = Bench::new();
    let slow = Fake { delay: Duration::from_secs(3600), ..fake("slow", "v") };
    let definition = bench.world.definition(&[slow]);
    let spawn = |job: Arc<Job>| {
        let definition = definition.clone();
        tokio::spawn(async move { job.build(&definition).await })
    };
    let (first, second) = (spawn(bench.job()), spawn(bench.job()));
    let settled = |expected: usize| async move {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while bench.world.running.load(Ordering::SeqCst) != expected {
            assert!(tokio::time::Instant::now() < deadline, "never {expected} running");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    settled.clone()(1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    first.abort();
    assert!(first.await.is_err());
    tokio::time::sleep(Duration::from_millis(20)).await;
    settled.clone()(1).await;
    second.abort();
    assert!(second.await.is_err());
    settled(0).await;
}

#[tokio::test]
async fn a_failure_names_its_vertex_and_is_not_remembered() {
    let bench = Bench::new();
    let broken = Fake { fails: true, ..fake("broken", "") };
    let definition = bench.world.definition(&[broken]);
    let error = bench.job().build(&definition).await.expect_err("a failure");
    assert!(
        matches!(&error, super::SolveError::Vertex { error, .. } if error.to_string() == "it failed"),
        "{error}"
    );
    assert_eq!(bench.build(&[fake("broken", "fine")]).await, gave("fine", 1));
}

#[tokio::test]
async fn a_loaded_input_keeps_the_key_it_was_loaded_under() {
    // `copy` is loaded as the copy of a; while the slow step runs, another build makes its source give b. What is then made from the copy
    // of a must not be found by who asks for the copy of b.
    let bench = Bench::new();
    let source = |op: &str, value: &str| fake(op, value);
    let image =
        |first: Fake, slow: Fake| [first, fake("copy", "").reads(0, ""), slow, fake("image", "").on(1).on(2)];
    let a_copy = [source("run", "a"), fake("copy", "").reads(0, "")];
    let (copied, _) = bench.build(&a_copy).await;
    let slow = Fake { yields: 200, ..fake("slow", "s") };
    let definition = bench.world.definition(&image(source("run", "a"), slow));
    let job = bench.job();
    let slowly =
        tokio::spawn(async move { text(&job.build(&definition).await.expect("a build").expect("one")) });
    while bench.world.running.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    bench.build(&[source("run", "b").forced(), fake("look", "").reads(0, "")]).await;
    assert_eq!(bench.world.running.load(Ordering::SeqCst), 1, "the slow step still runs");
    let expected = value(&fake("image", "").on(1).on(2), &[String::new(), copied, "s".to_owned()][1..]);
    assert_eq!(slowly.await.expect("no panic"), expected);
    let (of_b, _) = bench.build(&image(source("always-b", "b"), fake("slow", "s"))).await;
    assert_ne!(of_b, expected, "a copy of b");
}

#[tokio::test]
async fn a_result_that_cannot_be_loaded_is_made_again() {
    let bench = Bench::new();
    let two = [fake("s1", "r1"), fake("s0", "").on(0)];
    let (first, _) = bench.build(&two).await;
    bench.store.break_results();
    assert_eq!(bench.build(&two).await, (first.clone(), 2), "both rows are forgotten, both run");
    assert_eq!(bench.build(&two).await, (first, 0));
}

#[tokio::test]
async fn stages_that_copy_the_same_content_neither_loop_nor_collide() {
    let bench = Bench::new();
    // Each stage copies what the one before made, all of the same bytes.
    let stages = [
        fake("base", "same"),
        fake("copy", "same").on(0).reads(0, ""),
        fake("copy", "same").on(1).reads(1, ""),
        fake("copy", "same").on(2).reads(1, ""),
        fake("end", "").on(3).on(1),
    ];
    let (first, execs) = bench.build(&stages).await;
    assert_eq!(execs, 5, "their bases differ, so none stands for another");
    assert_eq!(bench.build(&stages).await, (first, 0));
}

#[tokio::test]
async fn forced_runs_are_shared_while_active_and_never_with_unforced_ones() {
    let bench = Bench::new();
    let slow = |forced| Fake { delay: Duration::from_millis(50), forced, ..fake("slow", "v") };
    let (forced, plain) = (bench.world.definition(&[slow(true)]), bench.world.definition(&[slow(false)]));
    let execs = || bench.world.execs.swap(0, Ordering::SeqCst);
    let jobs = [bench.job(), bench.job(), bench.job()];
    // The unforced one is first: the forced ones do not join it, but each other.
    let (a, b, c) = tokio::join!(jobs[0].build(&plain), jobs[1].build(&forced), jobs[2].build(&forced));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(execs(), 2);
    let bench_again = Bench::new();
    let plain = bench_again.world.definition(&[slow(false)]);
    let forced = bench_again.world.definition(&[slow(true)]);
    let jobs = [bench_again.job(), bench_again.job()];
    let (a, b) = tokio::join!(jobs[0].build(&forced), jobs[1].build(&plain));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(bench_again.world.execs.load(Ordering::SeqCst), 1, "an unforced one joins a forced one");
}

#[tokio::test]
async fn a_forced_vertex_runs_once_in_a_build() {
    let bench = Bench::new();
    let graph = [
        fake("base", "b").forced(),
        fake("left", "l").on(0),
        fake("right", "r").reads(0, ""),
        fake("end", "e").on(1).on(2),
    ];
    assert_eq!(bench.build(&graph).await, gave("e", 4));
    assert_eq!(bench.build(&graph).await, gave("e", 3), "what reads it by content alone hits");
}
