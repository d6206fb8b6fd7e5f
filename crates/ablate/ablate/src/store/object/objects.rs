//! Files of a store as objects.
//!
//! The client is asynchronous, and everything that asks it is not: each request is waited for, on a runtime without
//! threads of its own.

use std::fmt::{self, Debug, Formatter};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig, UpdateVersion,
};
use tokio::runtime::{Builder, Runtime};

use super::ObjectError;
use super::claims::Claims;
use super::connect::Address;
use crate::folder::STUDY_FILE;
use crate::store::RUNS;
use crate::store::backend::{Backend, Changed};
use crate::store::claim::Claim;

/// Tries of a request, and the time after which there is no other one. The first look at a store is not patient: most
/// likely its name is wrong.
const FIRST: (usize, Duration) = (3, Duration::from_secs(10));
const LATER: (usize, Duration) = (12, Duration::from_secs(60));

/// Objects that are read at the same time.
const AT_ONCE: usize = 32;

/// A version that no object has.
const NO_VERSION: (&str, &str) = ("\"00000000000000000000000000000000\"", "1");

/// The objects of a study, under a prefix.
#[derive(Clone)]
pub(super) struct Objects {
    address: Address,
    client: Arc<dyn ObjectStore>,
    runtime: Arc<Runtime>,
    pub(super) claims: Claims,
}

impl Debug for Objects {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.address.url).finish()
    }
}

impl Objects {
    /// # Errors
    /// There is none that can be read at the URL.
    pub(super) fn open(url: &str) -> Result<Self, ObjectError> {
        let address = Address::parse(url)?;
        let first: Arc<dyn ObjectStore> = Arc::from(address.connect(retry(FIRST))?);
        let client = Arc::from(address.connect(retry(LATER))?);
        let objects = Self::with(address, first)?;
        objects.get(&objects.of_study(STUDY_FILE))?;
        Ok(Self { client, ..objects })
    }

    pub(super) fn with(address: Address, client: Arc<dyn ObjectStore>) -> Result<Self, ObjectError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| address.failed("start a client for", &address.url, &error))?;
        Ok(Self { address, client, runtime: Arc::new(runtime), claims: Claims::new() })
    }

    fn of_study(&self, name: &str) -> Path {
        self.address.prefix.clone().join(name)
    }

    pub(super) fn of_run(&self, name: &str) -> Path {
        self.of_study(RUNS).join(name)
    }

    pub(super) fn failed(&self, doing: &'static str, path: &Path, error: &Error) -> ObjectError {
        self.address.failed(doing, &self.url_of(path), error)
    }

    /// Where an object is, for people.
    fn url_of(&self, path: &Path) -> String {
        let within = path.as_ref().strip_prefix(self.address.prefix.as_ref()).unwrap_or(path.as_ref());
        format!("{}/{}", self.address.url, within.trim_start_matches('/'))
    }

    /// An object and its version; nothing where there is none.
    pub(super) fn get(&self, path: &Path) -> Result<Option<(Vec<u8>, UpdateVersion)>, ObjectError> {
        let got = self.runtime.block_on(async {
            let got = self.client.get(path).await?;
            let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            Ok((got.bytes().await?.to_vec(), version))
        });
        match got {
            Ok(got) => Ok(Some(got)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", path, &error)),
        }
    }

    /// The version that was written; nothing where the mode did not allow it.
    pub(super) fn put(
        &self,
        path: &Path,
        content: &[u8],
        mode: PutMode,
    ) -> Result<Option<UpdateVersion>, ObjectError> {
        let payload = PutPayload::from(content.to_vec());
        let is_update = matches!(mode, PutMode::Update(_));
        match self.runtime.block_on(self.client.put_opts(path, payload, mode.into())) {
            Ok(put) => Ok(Some(put.into())),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
            // Where there is nothing to be replaced, stores differ in what they say.
            Err(Error::NotFound { .. }) if is_update => Ok(None),
            Err(error) => Err(self.failed("write", path, &error)),
        }
    }

    pub(super) fn delete(&self, path: &Path) -> Result<(), ObjectError> {
        match self.runtime.block_on(self.client.delete(path)) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", path, &error)),
        }
    }

    /// The names of the objects and folders under a path.
    fn list(&self, path: &Path) -> Result<Vec<String>, ObjectError> {
        let listed = self.runtime.block_on(self.client.list_with_delimiter(Some(path)));
        let listed = listed.map_err(|error| self.failed("list", path, &error))?;
        let paths = listed.objects.iter().map(|object| &object.location).chain(&listed.common_prefixes);
        Ok(paths.filter_map(|path| path.filename().map(str::to_owned)).collect())
    }

    /// That it refuses what claims need to be refused.
    fn check(&self, path: &Path, content: &[u8]) -> Result<(), ObjectError> {
        let (e_tag, version) = (Some(NO_VERSION.0.to_owned()), Some(NO_VERSION.1.to_owned()));
        for (mode, what) in [
            (PutMode::Create, "to create what is there"),
            (
                PutMode::Update(UpdateVersion { e_tag, version }),
                "to replace another version than the one that is there",
            ),
        ] {
            if self.put(path, content, mode)?.is_some() {
                return Err(ObjectError::Unconditional { url: self.address.url.clone(), what });
            }
        }
        Ok(())
    }
}

impl Backend for Objects {
    fn take(&self, study: &str) -> Result<()> {
        let path = self.of_study(STUDY_FILE);
        let content = study.as_bytes();
        let before = self.get(&path)?;
        if before.as_ref().is_some_and(|(before, _)| before == content) {
            return Ok(());
        }
        if before.is_some() {
            self.put(&path, content, PutMode::Overwrite)?;
            return Ok(());
        }
        // Another process may have begun the same study meanwhile. Its first object is the study.
        let names = self.list(&self.address.prefix)?;
        if !names.is_empty() && !names.iter().any(|name| name == STUDY_FILE) {
            return Err(ObjectError::NotAStudy(self.address.url.clone()).into());
        }
        self.put(&path, content, PutMode::Create)?;
        Ok(self.check(&path, content)?)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.get(&self.of_run(name))?.map(|(content, _)| content))
    }

    fn read_all(&self, names: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut contents = Vec::with_capacity(names.len());
        // An answer takes its time, however small it is.
        for names in names.chunks(AT_ONCE) {
            let paths: Vec<Path> = names.iter().map(|name| self.of_run(name)).collect();
            let answers = self.runtime.block_on(async {
                let get = |path: &Path| {
                    let (client, path) = (Arc::clone(&self.client), path.clone());
                    tokio::spawn(async move { client.get(&path).await?.bytes().await })
                };
                let asked: Vec<_> = paths.iter().map(get).collect();
                let mut answers = Vec::new();
                for answer in asked {
                    answers.push(answer.await.unwrap_or_else(|error| Err(error.into())));
                }
                answers
            });
            for (path, answer) in paths.iter().zip(answers) {
                match answer {
                    Ok(content) => contents.push(Some(content.to_vec())),
                    Err(Error::NotFound { .. }) => contents.push(None),
                    Err(error) => return Err(self.failed("read", path, &error).into()),
                }
            }
        }
        Ok(contents)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        self.put(&self.of_run(name), content, PutMode::Overwrite)?;
        Ok(())
    }

    fn create(&self, name: &str, content: &[u8]) -> Result<bool> {
        Ok(self.put(&self.of_run(name), content, PutMode::Create)?.is_some())
    }

    fn remove(&self, name: &str) -> Result<()> {
        Ok(self.delete(&self.of_run(name))?)
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(self.list(&self.of_study(RUNS))?)
    }

    fn claim(&self, address: &str) -> Result<Option<Claim>> {
        let lease = self.claims.lease(self, address, self.claims.now())?;
        lease.map(Claim::of).transpose()
    }

    fn change(&self, name: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Changed) -> Result<()> {
        let path = self.of_study(name);
        loop {
            let before = self.get(&path)?;
            let before = before.as_ref().map(|(content, version)| (content.as_slice(), version));
            let changed = change(before.map(|(content, _)| content)).with_context(|| self.url_of(&path))?;
            let Some(content) = changed else { return Ok(()) };
            let mode = before.map_or(PutMode::Create, |(_, version)| PutMode::Update(version.clone()));
            // Where another process has changed it meanwhile, it is changed again.
            if self.put(&path, &content, mode)?.is_some() {
                return Ok(());
            }
        }
    }

    fn keeps_first(&self) -> bool {
        true
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn shown(&self, name: &str) -> String {
        self.url_of(&self.of_run(name))
    }
}

fn retry((max_retries, retry_timeout): (usize, Duration)) -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(8), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries, retry_timeout }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use object_store::memory::InMemory;

    use crate::store::object::connect::Provider;
    use crate::store::tests::run;
    use crate::store::{Found, MergeError, Store};

    /// As so many processes see the same objects.
    pub(in crate::store::object) fn in_memory<const N: usize>() -> [Objects; N] {
        let client: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let address = Address::parse("s3://bucket/studies/my").unwrap();
        [(); N].map(|()| Objects::with(address.clone(), Arc::clone(&client)).unwrap())
    }

    fn store(objects: Objects, folder: &std::path::Path) -> Store {
        Store { backend: Arc::new(objects), folder: folder.join(RUNS) }
    }

    #[test]
    fn objects_are_written_created_once_listed_and_removed() {
        let [objects, other] = in_memory();
        assert_eq!(objects.read("x.json").unwrap(), None);
        assert!(objects.create("x.json", b"1").unwrap() && !other.create("x.json", b"2").unwrap());
        assert_eq!(other.read("x.json").unwrap(), Some(b"1".to_vec()));
        other.write("x.json", b"3").unwrap();
        objects.write("y.state", b"4").unwrap();
        assert_eq!(objects.read("x.json").unwrap(), Some(b"3".to_vec()));
        assert_eq!(objects.names().unwrap(), ["x.json", "y.state"]);
        let names: Vec<String> = (0..100).map(|index| format!("{}.state", ["x", "y"][index % 2])).collect();
        let contents = objects.read_all(&names).unwrap();
        assert!(contents.len() == 100 && contents[0].is_none() && contents[99] == Some(b"4".to_vec()));
        objects.remove("x.json").unwrap();
        objects.remove("x.json").unwrap();
        assert_eq!(objects.names().unwrap(), ["y.state"]);
        assert_eq!(objects.shown("y.state"), "s3://bucket/studies/my/runs/y.state");
    }

    #[test]
    fn a_prefix_is_taken_when_it_is_new_or_has_a_study_and_left_alone_when_it_has_other_things() {
        let [objects, other] = in_memory();
        objects.take("tasks = []").unwrap();
        other.take("tasks = []").unwrap();
        other.take("tasks = [\"digits\"]").unwrap();
        let study = objects.get(&objects.of_study(STUDY_FILE)).unwrap().unwrap().0;
        assert_eq!(study, b"tasks = [\"digits\"]");
        let [objects] = in_memory();
        objects.put(&objects.of_study("thesis.tex"), b"years", PutMode::Create).unwrap();
        let error = objects.take("tasks = []").unwrap_err().to_string();
        assert!(error.contains("something other than a study") && error.contains("--store"), "{error}");
        assert_eq!(objects.list(&objects.address.prefix).unwrap(), ["thesis.tex"]);
    }

    #[test]
    fn changes_of_several_processes_are_all_kept() {
        let all: [Objects; 4] = in_memory();
        let add = |objects: &Objects| {
            for _ in 0..20 {
                let add = &mut |content: Option<&[u8]>| -> Changed {
                    Ok(Some([content.unwrap_or_default(), b"x"].concat()))
                };
                objects.change("looks.json", add).unwrap();
            }
        };
        std::thread::scope(|scope| all.iter().for_each(|objects| drop(scope.spawn(|| add(objects)))));
        let content = all[0].get(&all[0].of_study("looks.json")).unwrap().unwrap().0;
        assert_eq!(content.len(), 80);
    }

    #[test]
    fn a_run_that_was_stored_meanwhile_stays_and_another_result_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = in_memory().map(|objects| store(objects, folder.path()));
        first.save("x", &run()).unwrap();
        let mut slower = run();
        slower.record.curve[0].seconds *= 3.0;
        second.save("x", &slower).unwrap();
        assert_eq!(second.load("x").unwrap(), Found::Whole(Box::new(run())));
        let mut other = run();
        other.record.curve[0].train.loss = 0.25;
        let error = second.save("x", &other).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error.downcast_ref(), Some(MergeError::Second { .. })), "{text}");
        assert!(text.contains("part at step 0") && text.contains("my/runs/x.json"), "{text}");
        assert_eq!(second.load("x").unwrap(), Found::Whole(Box::new(run())));
        // What is damaged is no result.
        first.backend.write("x.json", b"half a fi").unwrap();
        second.save("x", &other).unwrap();
        assert_eq!(first.load("x").unwrap(), Found::Whole(Box::new(other)));
        assert!(!folder.path().join(RUNS).exists(), "nothing of it is on this machine");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_under_way_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let [store, other] = in_memory().map(|objects| store(objects, folder.path()));
        let claim = other.claim("running").unwrap();
        for name in ["done.checkpoint", "running.checkpoint"] {
            store.backend.write(name, b"state").unwrap();
        }
        store.save("done", &run()).unwrap();
        let work = store.work_folder("running").unwrap().keep();
        store.tidy();
        let names = ["done.json", "running.checkpoint", "running.claim"];
        assert_eq!(store.backend.names().unwrap(), names);
        assert!(work.is_dir());
        drop(claim);
        store.tidy();
        assert_eq!(store.backend.names().unwrap(), names[..2]);
        assert!(!work.exists());
    }

    #[test]
    fn stores_merge_in_both_directions_with_folders() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Store::open(&parent.path().join("a")).unwrap();
        let [objects] = in_memory().map(|objects| store(objects, parent.path()));
        folder.save("here", &run()).unwrap();
        objects.save("there", &run()).unwrap();
        let merged = objects.merge(&folder).unwrap();
        assert_eq!((merged.copied, merged.known), (1, 0));
        let merged = folder.merge(&objects).unwrap();
        assert_eq!((merged.copied, merged.known), (1, 1));
        assert_eq!(folder.load("there").unwrap(), objects.load("here").unwrap());
        let mut other = run();
        other.record.initial_sha256 = "z".into();
        folder.save("there", &other).unwrap();
        let conflict = &objects.merge(&folder).unwrap().conflicts[0];
        assert_eq!(
            (conflict.here.as_str(), conflict.address.as_str()),
            ("s3://bucket/studies/my/runs/there.json", "there")
        );
    }

    #[test]
    fn what_is_no_address_of_an_object_store_is_refused_with_the_forms_that_are() {
        for (url, expected) in [
            ("s3:/bucket", "s3://BUCKET/PREFIX"),
            ("ftp://host/study", "s3://BUCKET/PREFIX"),
            ("https://example.com/study", "conditional writes"),
            ("memory:///study", "conditional writes"),
            ("file:///tmp/study", "--out"),
        ] {
            let error = Address::parse(url).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, ObjectError::Url { .. }) && text.contains(expected), "{text}");
        }
        for (url, provider) in [
            ("s3://bucket/a/b/", Provider::S3),
            ("gs://bucket/a/b", Provider::Google),
            ("az://container/a/b", Provider::Azure),
            ("https://account.blob.core.windows.net/container/a/b", Provider::Azure),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.provider, address.prefix.as_ref()), (provider, "a/b"));
        }
    }
}
