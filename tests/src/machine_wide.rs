//! Machine-wide: a lock on what the tests of a machine share, whichever process and checkout they run in.
//!
//! Control groups by a fixed name, a port that was chosen but is not yet listened on, limits of the kernel. An advisory lock on a
//! file holds under threads of one process (`cargo test`), a process for each test (nextest) and two checkouts at once alike, which
//! a runner's own groups do not; and who is killed leaves none behind.

use std::{fs::File, path::Path};

/// Where the locks lie: a folder of root's, gone at reboot.
const FOLDER: &str = "/run/buildd-tests";

/// Waits until nobody else on this machine holds the lock of this name; it is released when dropped.
#[must_use = "the lock is held as long as this lives"]
pub fn machine_wide(name: &str) -> File {
    std::fs::create_dir_all(FOLDER).expect("the tests need root");
    let path = Path::new(FOLDER).join(name);
    let file = File::options().create(true).truncate(false).write(true).open(&path).expect("a lock file");
    file.lock().unwrap_or_else(|e| panic!("lock {}: {e}", path.display()));
    file
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    use super::machine_wide;

    #[test]
    fn one_holds_it_at_a_time() {
        let name = format!("test-{}", std::process::id());
        let busy = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let held = machine_wide(&name);
                        assert!(!busy.swap(true, Ordering::SeqCst), "two hold it");
                        thread::yield_now();
                        busy.store(false, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
        std::fs::remove_file(std::path::Path::new(super::FOLDER).join(name)).expect("our own file");
    }
}
