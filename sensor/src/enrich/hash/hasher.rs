//! Hashes files in the background, each content once.
//!
//! Two lanes, a thread each: files up to [`SMALL_LEN_MAX`] bytes do not wait behind the 381 MB of an agent's binary.
//! A file is held (`O_PATH`) from the moment it is seen, so that a short-lived process or a deleted file is still hashed.

use std::{
    collections::HashSet,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::{OFlags, fstatfs};
use treeline_event::{Digest, FileId, Image, PathBytes};

use super::{
    build_id::build_id,
    cache::{self, Cache, Known},
    digest::{Places, content, reopen},
    identity::identity,
};
use crate::enrich::{config::Config, procfs::hold};

/// Largest file of the quick lane, in bytes: hashed within some 50 ms even without SHA instructions.
const SMALL_LEN_MAX: u64 = 16 * 1024 * 1024;

enum Job {
    Hash { image: Image, places: Places },
    Save { path: PathBuf, bytes: Vec<u8> },
}

struct Done {
    image: Image,
    lasting: bool,
}

/// Hashes files in the background.
pub struct Hasher {
    cache: Cache,
    file: Option<PathBuf>,
    boot: String,
    in_flight: HashSet<FileId>,
    small: Sender<Job>,
    large: Sender<Job>,
    done: Receiver<Done>,
    refused: u64,
}

impl Hasher {
    /// Loads what is known and starts the lanes.
    ///
    /// # Errors
    /// A thread cannot be started. A cache file that cannot be used is only warned of.
    pub fn start(config: &Config) -> io::Result<Self> {
        let boot = std::fs::read_to_string(config.proc.join("sys/kernel/random/boot_id")).unwrap_or_default();
        let cache = config.hashes.as_ref().map(|path| (path, Cache::load(path, config.hashes_max, &boot)));
        let cache = match cache {
            Some((_, Ok(cache))) => cache,
            Some((path, Err(error))) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(path = %path.display(), %error, ?cause, "the cache of hashes is not used, and will be rebuilt");
                Cache::new(config.hashes_max)
            }
            None => Cache::new(config.hashes_max),
        };
        // Room for every job that can be under way, so that a lane never waits for the enricher.
        let (tell, done) = bounded(2 * (config.hash_queue_max + 1));
        let small = lane("hash-small", config.hash_queue_max, tell.clone())?;
        let large = lane("hash-large", config.hash_queue_max, tell)?;
        let (file, in_flight) = (config.hashes.clone(), HashSet::new());
        Ok(Self { cache, file, boot, in_flight, small, large, done, refused: 0 })
    }

    /// Fills in what is known of an image; otherwise orders its hash. The digest is then `pending`, or `unreadable`
    /// when too many files are waiting (counted; the next sight of the file tries again).
    pub fn resolve(&mut self, image: &mut Image, places: impl FnOnce() -> Places) {
        if let Some(known) = self.cache.find(&image.file) {
            image.digest = Digest::Sha256(known.sha256);
            image.build_id.clone_from(&known.build_id);
            return;
        }
        image.digest = Digest::Pending;
        if self.in_flight.contains(&image.file) {
            return;
        }
        let places = places();
        image.build_id = quick_build_id(&places, &image.file);
        let lane = if image.file.size > SMALL_LEN_MAX { &self.large } else { &self.small };
        if lane.try_send(Job::Hash { image: image.clone(), places }).is_ok() {
            self.in_flight.insert(image.file);
        } else {
            image.digest = Digest::Unreadable;
            self.refused += 1;
        }
    }

    /// Orders the hash of a file before it is needed.
    ///
    /// # Errors
    /// The file cannot be found or is not a regular one.
    pub fn prehash(&mut self, path: &Path) -> io::Result<()> {
        let path = std::fs::canonicalize(path)?;
        let held = hold(&path, OFlags::NOFOLLOW)?;
        let name = PathBytes::from(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
        let mut image =
            Image { path: name, file: identity(&held)?, seen_by_kernel: false, ..Image::default() };
        self.resolve(&mut image, || Places { held: Some(held), paths: vec![path] });
        Ok(())
    }

    /// Images whose hash, or lack of one, has become known since the last call.
    pub fn finished(&mut self) -> Vec<Image> {
        let mut images = Vec::new();
        while let Ok(Done { image, lasting }) = self.done.try_recv() {
            self.in_flight.remove(&image.file);
            if let Digest::Sha256(sha256) = image.digest
                && lasting
            {
                self.cache.insert(image.file, Known { sha256, build_id: image.build_id.clone() });
            }
            images.push(image);
        }
        images
    }

    /// Files that were refused a hash since the last call because too many waited.
    pub fn refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Files under way.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.in_flight.len()
    }

    /// Has the cache file written in the background, when there is something new.
    pub fn save_soon(&mut self) {
        if let Some(path) = self.file.clone()
            && !self.large.is_full()
            && let Some(bytes) = self.cache.encode_changes(&self.boot)
        {
            // Only this thread sends, and there was room.
            let _ = self.large.try_send(Job::Save { path, bytes });
        }
    }

    /// Writes the cache file now, when there is something new.
    ///
    /// # Errors
    /// It cannot be written; the one before stays.
    pub fn save(&mut self) -> io::Result<()> {
        match (self.file.clone(), self.cache.encode_changes(&self.boot)) {
            (Some(path), Some(bytes)) => cache::replace(&path, &bytes),
            _ => Ok(()),
        }
    }
}

fn lane(name: &str, queue_max: usize, tell: Sender<Done>) -> io::Result<Sender<Job>> {
    let (send, jobs) = bounded(queue_max);
    thread::Builder::new().name(name.to_owned()).spawn(move || work(&jobs, &tell))?;
    Ok(send)
}

fn work(jobs: &Receiver<Job>, tell: &Sender<Done>) {
    for job in jobs {
        match job {
            Job::Hash { mut image, places } => {
                let content = content(&places, &image.file);
                image.digest = content.digest;
                image.build_id = content.build_id.or(image.build_id);
                if tell.send(Done { image, lasting: content.lasting }).is_err() {
                    return;
                }
            }
            Job::Save { path, bytes } => {
                if let Err(error) = cache::replace(&path, &bytes) {
                    tracing::warn!(path = %path.display(), %error, "cannot write the cache of hashes");
                }
            }
        }
    }
}

/// The build-id at once, where reading some headers cannot stall: on a block device, whose pages the exec just read.
fn quick_build_id(places: &Places, expect: &FileId) -> Option<String> {
    let held = places.held.as_ref().filter(|_| expect.major != 0)?;
    let sound = identity(held.as_fd()).is_ok_and(|id| id == *expect) && fstatfs(held).is_ok();
    sound.then(|| build_id(&reopen(held).ok()?)).flatten()
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, Instant},
    };

    use super::*;

    fn wait(hasher: &mut Hasher) -> Vec<Image> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut images = Vec::new();
        while hasher.waiting() > 0 && Instant::now() < deadline {
            images.extend(hasher.finished());
            thread::sleep(Duration::from_millis(1));
        }
        images
    }

    fn image(path: &Path) -> Image {
        let file = identity(hold(path, OFlags::empty()).expect("held")).expect("identity");
        Image { file, ..Image::default() }
    }

    #[test]
    fn once_then_known_also_after_a_restart() {
        let dir = tempfile::tempdir().expect("directory");
        let config = Config { hashes: Some(dir.path().join("hashes.postcard")), ..Config::default() };
        let path = dir.path().join("file");
        fs::write(&path, "abc").expect("written");
        let mut hasher = Hasher::start(&config).expect("started");
        hasher.prehash(&path).expect("ordered");
        let expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(wait(&mut hasher)[0].digest.to_string(), expect);
        hasher.save().expect("saved");
        for mut hasher in [hasher, Hasher::start(&config).expect("started")] {
            let mut image = image(&path);
            hasher.resolve(&mut image, || panic!("known"));
            assert_eq!(image.digest.to_string(), expect);
        }
    }

    #[test]
    fn a_full_queue_is_counted_and_never_waits() {
        let dir = tempfile::tempdir().expect("directory");
        let config = Config { hash_queue_max: 1, ..Config::default() };
        let mut hasher = Hasher::start(&config).expect("started");
        let fifo = dir.path().join("big");
        fs::File::create(&fifo).and_then(|file| file.set_len(64 << 20)).expect("written");
        let mut seen = 0;
        for number in 0..64u64 {
            let mut image = image(&fifo);
            image.file.ctime_ns += number; // Another identity each time; all but one end as `changed`.
            hasher.resolve(&mut image, || Places { held: None, paths: vec![fifo.clone()] });
            seen += u64::from(image.digest == Digest::Unreadable);
        }
        assert!(seen > 0);
        assert_eq!(hasher.refused(), seen);
        assert_eq!(wait(&mut hasher).len() as u64, 64 - seen);
    }

    #[test]
    fn damaged_cache_file_is_rebuilt() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("hashes.postcard");
        fs::write(&path, "junk").expect("written");
        let config = Config { hashes: Some(path.clone()), ..Config::default() };
        let mut hasher = Hasher::start(&config).expect("started");
        hasher.prehash(Path::new("/proc/self/exe")).expect("ordered");
        assert_eq!(wait(&mut hasher).len(), 1);
        hasher.save().expect("saved");
        assert!(fs::read(&path).expect("read").len() > 64);
    }
}
