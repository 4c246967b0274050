//! Replay: what a power cut can leave of a store, made from a record of its steps.
//!
//! A `Record` looks at the whole root before each step. From that follows, for a power cut at any of these moments, which names and bytes
//! are sure to last (they were synced), and which may be there, be torn, or be missing. `Record::cuts` makes such states, one folder each.
//!
//! The database's own syncs are not seen: of a power cut it keeps every transaction up to the last durable one, and any number of those after
//! it, in their order. That is SQLite's promise, and its own tests hold it.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use super::{
    Step,
    watch::{Watch, Watching, watch},
};

/// What stays the same when a thing gets another name.
type Inode = (u64, u128);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(Vec<u8>),
    Folder(BTreeMap<String, Inode>),
    Link(PathBuf),
}

/// A tree to be made: by path, so that a folder comes before what is in it.
type State = BTreeMap<PathBuf, (Node, u32)>;

/// Everything below a root but the database, and the database.
#[derive(Clone, Debug)]
struct Moment {
    step: Option<(Step, PathBuf)>,
    top: Inode,
    nodes: HashMap<Inode, (Node, u32)>,
    database: Vec<(String, Vec<u8>)>,
}

/// Which of what may be there is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pick {
    /// Only what was synced.
    Synced,
    /// All of it.
    All,
    /// Bytes up to the middle of what was not synced.
    Torn,
    /// Each thing as the dice fall.
    Dice(u64),
}

/// The states of each moment: names, bytes, and whether the latest transactions lasted.
const PICKS: [(Pick, Pick, bool); 9] = [
    (Pick::Synced, Pick::Synced, false),
    (Pick::Synced, Pick::All, true),
    (Pick::All, Pick::Synced, true),
    (Pick::All, Pick::Synced, false),
    (Pick::All, Pick::Torn, true),
    (Pick::All, Pick::All, true),
    (Pick::Dice(1), Pick::Dice(2), true),
    (Pick::Dice(3), Pick::Dice(4), false),
    (Pick::Dice(5), Pick::Dice(6), true),
];

/// The moments of a root, while this lives.
pub(crate) struct Record {
    root: PathBuf,
    moments: Arc<Moments>,
    _watching: Watching,
}

struct Moments(PathBuf, Mutex<Vec<Moment>>);

impl Moments {
    fn lock(&self) -> MutexGuard<'_, Vec<Moment>> {
        self.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Moments {
    fn before(&self, step: Step, path: &Path) -> io::Result<()> {
        let moment = look(&self.0, Some((step, path.to_owned())))?;
        self.lock().push(moment);
        Ok(())
    }
}

/// A state that a power cut can leave.
pub(crate) struct Cut {
    /// The moment: so many steps were done or begun.
    pub(crate) at: usize,
    /// What it is, for messages.
    pub(crate) shown: String,
    /// Where it lies.
    pub(crate) dir: tempfile::TempDir,
}

impl Record {
    /// Records the steps of `root`; all that is there now lasts.
    pub(crate) fn begin(root: &Path) -> Self {
        let moments = Arc::new(Moments(root.to_owned(), Mutex::default()));
        let _watching = watch(root, moments.clone());
        Self { root: root.to_owned(), moments, _watching }
    }

    /// How many steps were announced by now.
    pub(crate) fn now(&self) -> usize {
        self.moments.lock().len()
    }

    /// Every state that is looked at, made below `place` one after the other.
    pub(crate) fn cuts(&self, place: &Path, mut check: impl FnMut(&Cut)) {
        let mut moments = self.moments.lock().clone();
        moments.push(look(&self.root, None).expect("the root"));
        let mut synced = Synced::of(&moments[0]);
        for (at, moment) in moments.iter().enumerate() {
            let mut seen = Vec::new();
            for (names, bytes, latest) in PICKS {
                let mut state = State::default();
                synced.plan(moment, moment.top, (names, bytes), Path::new(""), &mut state);
                let database = if latest { at } else { synced.database };
                for (name, bytes) in &moments[database].database {
                    state.insert(PathBuf::from(name), (Node::File(bytes.clone()), 0o600));
                }
                // Where much was synced, many picks are one state.
                if seen.contains(&state) {
                    continue;
                }
                let dir = tempfile::tempdir_in(place).expect("a folder");
                make(&state, dir.path()).expect("a state");
                seen.push(state);
                let step = moments[..=at].iter().rev().take(3).map(|moment| &moment.step).collect::<Vec<_>>();
                let shown =
                    format!("moment {at}: names {names:?}, bytes {bytes:?}, latest {latest}; {step:?}");
                check(&Cut { at, shown, dir });
            }
            synced.done(moment, at);
        }
    }
}

/// What lasts.
#[derive(Debug)]
struct Synced {
    files: HashMap<Inode, Vec<u8>>,
    folders: HashMap<Inode, BTreeMap<String, Inode>>,
    /// Whatever was ever seen: a name that was removed may come back.
    seen: HashMap<Inode, (Node, u32)>,
    /// The moment whose database lasts at least.
    database: usize,
}

impl Synced {
    fn of(first: &Moment) -> Self {
        let mut synced =
            Self { files: HashMap::new(), folders: HashMap::new(), seen: HashMap::new(), database: 0 };
        synced.all(first);
        synced
    }

    fn all(&mut self, moment: &Moment) {
        moment.nodes.iter().for_each(|(inode, (node, _))| self.one(*inode, node));
        self.seen.extend(moment.nodes.clone());
    }

    fn one(&mut self, inode: Inode, node: &Node) {
        match node {
            Node::File(bytes) => drop(self.files.insert(inode, bytes.clone())),
            Node::Folder(names) => drop(self.folders.insert(inode, names.clone())),
            Node::Link(_) => {}
        }
    }

    /// The step of a moment is done.
    fn done(&mut self, moment: &Moment, at: usize) {
        self.seen.extend(moment.nodes.clone());
        let Some((step, path)) = &moment.step else { return };
        match step {
            Step::SyncAll => self.all(moment),
            Step::SyncFile | Step::SyncFolder => {
                if let Some(inode) = moment.find(path)
                    && let Some((node, _)) = moment.nodes.get(&inode)
                {
                    self.one(inode, node);
                }
            }
            Step::Commit { durable: true } => self.database = at + 1,
            _ => {}
        }
    }

    /// Notes a thing as a power cut may leave it, and what is below it.
    fn plan(&self, moment: &Moment, inode: Inode, picks: (Pick, Pick), to: &Path, state: &mut State) {
        let Some((node, mode)) = moment.nodes.get(&inode).or_else(|| self.seen.get(&inode)) else { return };
        let left = match node {
            Node::Link(target) => Node::Link(target.clone()),
            Node::File(now) => {
                let nothing = Vec::new();
                let synced = self.files.get(&inode).unwrap_or(&nothing);
                Node::File(match picks.1.of(inode) {
                    Pick::All => now.clone(),
                    Pick::Torn if now != synced => now[..now.len() / 2].to_vec(),
                    _ => synced.clone(),
                })
            }
            Node::Folder(now) => {
                let nothing = BTreeMap::new();
                let synced = self.folders.get(&inode).unwrap_or(&nothing);
                let names = if picks.0.of(inode) == Pick::All { now } else { synced };
                names
                    .iter()
                    .for_each(|(name, inode)| self.plan(moment, *inode, picks, &to.join(name), state));
                Node::Folder(BTreeMap::new())
            }
        };
        state.insert(to.to_owned(), (left, *mode));
    }
}

/// Makes a tree below a folder that is there.
fn make(state: &State, root: &Path) -> io::Result<()> {
    for (path, (node, mode)) in state {
        let to = root.join(path);
        match node {
            Node::Folder(_) if path.as_os_str().is_empty() => {}
            Node::Folder(_) => fs::DirBuilder::new().mode(*mode).create(to)?,
            Node::Link(target) => std::os::unix::fs::symlink(target, to)?,
            Node::File(bytes) => {
                fs::write(&to, bytes)?;
                fs::set_permissions(to, fs::Permissions::from_mode(*mode))?;
            }
        }
    }
    Ok(())
}

impl Pick {
    /// The pick for one thing.
    fn of(self, inode: Inode) -> Self {
        let Self::Dice(seed) = self else { return self };
        let mixed = (inode.0 ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        [Self::Synced, Self::All, Self::Torn][usize::try_from((mixed >> 32) % 3).expect("less than three")]
    }
}

impl Moment {
    /// What had a name, counted from the root, at this moment.
    fn find(&self, path: &Path) -> Option<Inode> {
        path.components().try_fold(self.top, |at, part| match &self.nodes.get(&at)?.0 {
            Node::Folder(names) => names.get(part.as_os_str().to_str()?).copied(),
            _ => None,
        })
    }
}

/// Everything below a root.
fn look(root: &Path, step: Option<(Step, PathBuf)>) -> io::Result<Moment> {
    let device = fs::metadata(root)?.dev();
    let mut nodes = HashMap::new();
    let top = see(root, device, true, &mut nodes)?.expect("the root is on its own device");
    let mut database = Vec::new();
    for name in ["buildd.db", "buildd.db-wal"] {
        if let Ok(bytes) = fs::read(root.join(name)) {
            database.push((name.to_owned(), bytes));
        }
    }
    let step = step.map(|(step, path)| (step, path.strip_prefix(root).unwrap_or(&path).to_owned()));
    Ok(Moment { step, top, nodes, database })
}

/// Notes one thing and all below it; what is mounted is not of this file system.
fn see(
    path: &Path,
    device: u64,
    top: bool,
    nodes: &mut HashMap<Inode, (Node, u32)>,
) -> io::Result<Option<Inode>> {
    let meta = fs::symlink_metadata(path)?;
    if meta.dev() != device {
        return Ok(None);
    }
    let born = meta.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let inode = (meta.ino(), born.unwrap_or_default().as_nanos());
    let node = if meta.is_dir() {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name().into_string().expect("names of a store are UTF-8");
            let is_database = top && name.starts_with("buildd.db");
            if !is_database && let Some(inode) = see(&path.join(&name), device, false, nodes)? {
                names.insert(name, inode);
            }
        }
        Node::Folder(names)
    } else if meta.is_symlink() {
        Node::Link(fs::read_link(path)?)
    } else if meta.is_file() {
        Node::File(fs::read(path)?)
    } else {
        return Ok(None);
    };
    nodes.insert(inode, (node, meta.mode() & 0o7777));
    Ok(Some(inode))
}
