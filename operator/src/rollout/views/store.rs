//! Watched objects, and who belongs to whom: a look at one rollout reads what is its own, however much there is besides.
//!
//! kube's store has no indexes, and finding a Deployment's pods in it means to go through all pods of the cluster. A list
//! takes the place of what was there when all of it is here: until then the old objects count. Objects are kept packed, as
//! JSON: a parsed template takes ten times as much memory, and is read for microseconds in an hour.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube_runtime::watcher::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::key::Key;

/// What an object can be found by, besides its own name; always within its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum By {
    /// The rollout in its label.
    Rollout,
    /// The Deployment that it is about, or belongs to.
    Deployment,
    /// The ReplicaSet that controls it.
    ReplicaSet,
    /// The Service that it is about, or belongs to.
    Service,
    /// The revision in its label.
    Revision,
    /// The revision in its label, of a pod that is to have a sidecar and has none.
    Unmeshed,
    /// The namespace that it is in; the name is empty.
    Namespace,
    /// The namespace, of a pod without a sidecar that gets one there.
    Bare,
    /// The namespace, of a pod that lacks its sidecar wherever it is, or has an old one.
    Lacks,
    /// A volume claim that it mounts.
    Claim,
    /// A pod behind it.
    Pod,
}

/// What an object is found by.
pub(super) type Links = Vec<(By, Key)>;

/// What a store does with its objects.
pub struct Shape<K> {
    pub(super) key: fn(&K) -> Key,
    pub(super) links: fn(&K) -> Links,
    /// `None`: kept as it is.
    pub(super) packing: Option<Packing<K>>,
}

/// How an object is made small, and read again.
pub(super) struct Packing<K> {
    pack: fn(&K) -> Option<Box<[u8]>>,
    unpack: fn(&[u8]) -> Option<K>,
}

impl<K> Clone for Packing<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Packing<K> {}

impl<K: Serialize + DeserializeOwned> Packing<K> {
    pub(super) const JSON: Option<Packing<K>> = Some(Packing {
        pack: |object| serde_json::to_vec(object).ok().map(Vec::into_boxed_slice),
        unpack: |bytes| serde_json::from_slice(bytes).ok(),
    });
}

/// An object as it is kept.
enum Kept<K> {
    Plain(Arc<K>),
    Packed(Box<[u8]>),
}

impl<K> Shape<K> {
    fn keep(&self, object: &Arc<K>) -> Kept<K> {
        let packed = self.packing.and_then(|packing| (packing.pack)(object));
        packed.map_or_else(|| Kept::Plain(Arc::clone(object)), Kept::Packed)
    }

    fn read(&self, kept: &Kept<K>) -> Option<Arc<K>> {
        match kept {
            Kept::Plain(object) => Some(Arc::clone(object)),
            Kept::Packed(bytes) => (self.packing?.unpack)(bytes).map(Arc::new),
        }
    }
}

impl<K> Clone for Shape<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Shape<K> {}

/// What an event has changed.
#[derive(Debug)]
pub enum Seen<K> {
    /// Nothing that can be seen yet.
    Nothing,
    One {
        before: Option<Arc<K>>,
        after: Option<Arc<K>>,
    },
    /// A list came anew.
    All,
}

/// Reads. Clones are the same store.
pub struct Store<K> {
    shape: Shape<K>,
    objects: Arc<RwLock<Objects<K>>>,
    listed: watch::Receiver<bool>,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Store {
            shape: self.shape,
            objects: Arc::clone(&self.objects),
            listed: self.listed.clone(),
        }
    }
}

/// Fills one store.
pub struct Writer<K> {
    shape: Shape<K>,
    objects: Arc<RwLock<Objects<K>>>,
    /// A list that is not complete yet.
    list: Option<Objects<K>>,
    listed: watch::Sender<bool>,
}

struct Objects<K> {
    all: HashMap<Key, Kept<K>>,
    linked: HashMap<(By, Key), BTreeSet<Arc<str>>>,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Objects {
            all: HashMap::new(),
            linked: HashMap::new(),
        }
    }
}

impl<K> Objects<K> {
    fn put(&mut self, shape: Shape<K>, key: Key, object: &Arc<K>) -> Option<Arc<K>> {
        let links = (shape.links)(object);
        let name: Arc<str> = key.name.as_str().into();
        let before = self.all.insert(key, shape.keep(object));
        let before = before.and_then(|before| shape.read(&before));
        if let Some(before) = &before {
            let old = (shape.links)(before);
            if old == links {
                return Some(Arc::clone(before));
            }
            self.unlink(old, &name);
        }
        for link in links {
            self.linked
                .entry(link)
                .or_default()
                .insert(Arc::clone(&name));
        }
        before
    }

    fn remove(&mut self, shape: Shape<K>, key: &Key) -> Option<Arc<K>> {
        let before = shape.read(&self.all.remove(key)?)?;
        self.unlink((shape.links)(&before), &key.name);
        Some(before)
    }

    fn unlink(&mut self, links: Links, name: &str) {
        for link in links {
            if let Some(names) = self.linked.get_mut(&link) {
                names.remove(name);
                if names.is_empty() {
                    self.linked.remove(&link);
                }
            }
        }
    }
}

impl<K> Writer<K> {
    pub fn new(shape: Shape<K>) -> Writer<K> {
        Writer {
            shape,
            objects: Arc::default(),
            list: None,
            listed: watch::Sender::new(false),
        }
    }

    pub fn as_reader(&self) -> Store<K> {
        Store {
            shape: self.shape,
            objects: Arc::clone(&self.objects),
            listed: self.listed.subscribe(),
        }
    }

    pub fn apply(&mut self, event: Event<K>) -> Seen<K> {
        let shape = self.shape;
        match event {
            Event::Init => self.list = Some(Objects::default()),
            Event::InitApply(object) => {
                let list = self.list.get_or_insert_default();
                list.put(shape, (shape.key)(&object), &Arc::new(object));
            }
            Event::InitDone => {
                let list = self.list.take().unwrap_or_default();
                let before = std::mem::replace(&mut *self.write(), list);
                drop(before);
                self.listed.send_replace(true);
                return Seen::All;
            }
            Event::Apply(object) => {
                let (key, after) = ((shape.key)(&object), Arc::new(object));
                let before = self.write().put(shape, key, &after);
                return Seen::One {
                    before,
                    after: Some(after),
                };
            }
            Event::Delete(object) => {
                let before = self.write().remove(shape, &(shape.key)(&object));
                return Seen::One {
                    before: before.or_else(|| Some(Arc::new(object))),
                    after: None,
                };
            }
        }
        Seen::Nothing
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Store<K> {
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        let objects = self.read();
        self.shape.read(objects.all.get(key)?)
    }

    /// Those that are linked to this, sorted by name.
    pub fn by(&self, by: By, key: &Key) -> Vec<Arc<K>> {
        let objects = self.read();
        let names = objects.linked.get(&(by, key.clone()));
        let names = names.into_iter().flatten();
        names
            .filter_map(|name| self.shape.read(objects.all.get(&key.beside(&**name))?))
            .collect()
    }

    /// All of them, in no order.
    pub fn state(&self) -> Vec<Arc<K>> {
        let objects = self.read();
        let all = objects.all.values();
        all.filter_map(|kept| self.shape.read(kept)).collect()
    }

    /// The names of all of them, in no order.
    pub fn keys(&self) -> Vec<Key> {
        self.read().all.keys().cloned().collect()
    }

    pub fn has(&self, key: &Key) -> bool {
        self.read().all.contains_key(key)
    }

    pub fn len(&self) -> usize {
        self.read().all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there was a list once.
    pub fn is_listed(&self) -> bool {
        *self.listed.borrow()
    }

    /// Waits for the first list.
    pub async fn listed(&self) {
        // A writer is dropped only when its task ends, which is when the process ends.
        let _ = self.listed.clone().wait_for(|listed| *listed).await;
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name, and the Deployments that it is linked to.
    type Thing = (&'static str, Vec<&'static str>);

    fn writer() -> Writer<Thing> {
        Writer::new(Shape {
            packing: None,
            key: |thing| Key::new("shop", thing.0),
            links: |thing| {
                let to = thing.1.iter();
                to.map(|name| (By::Deployment, Key::new("shop", *name)))
                    .collect()
            },
        })
    }

    fn of(store: &Store<Thing>, name: &str) -> Vec<&'static str> {
        let found = store.by(By::Deployment, &Key::new("shop", name));
        found.iter().map(|thing| thing.0).collect()
    }

    #[test]
    fn an_object_is_found_by_what_it_is_linked_to_now() {
        let mut writer = writer();
        let store = writer.as_reader();
        for thing in [("b", vec!["x"]), ("a", vec!["x", "y"])] {
            writer.apply(Event::Apply(thing));
        }
        assert_eq!(
            (of(&store, "x"), of(&store, "y")),
            (vec!["a", "b"], vec!["a"])
        );
        assert!(store.by(By::Service, &Key::new("shop", "x")).is_empty());
        assert!(store.by(By::Deployment, &Key::new("other", "x")).is_empty());
        writer.apply(Event::Apply(("a", vec!["y", "z"])));
        assert_eq!((of(&store, "x"), of(&store, "z")), (vec!["b"], vec!["a"]));
        let seen = writer.apply(Event::Delete(("a", vec![])));
        assert!(
            matches!(seen, Seen::One { before: Some(before), after: None } if before.1 == ["y", "z"])
        );
        assert!(of(&store, "y").is_empty() && of(&store, "z").is_empty());
        assert!(
            store.read().linked.len() == 1,
            "nothing is left of what is gone"
        );
    }

    #[test]
    fn what_is_packed_is_read_as_it_was() {
        type Named = (String, Option<u8>);
        let mut writer: Writer<Named> = Writer::new(Shape {
            key: |named| Key::new("shop", &named.0),
            links: |named| vec![(By::Service, Key::new("shop", &named.0))],
            packing: Packing::JSON,
        });
        let store = writer.as_reader();
        let named = ("a".to_owned(), Some(7));
        writer.apply(Event::Apply(named.clone()));
        let key = Key::new("shop", "a");
        assert_eq!(store.get(&key).as_deref(), Some(&named));
        assert_eq!(store.by(By::Service, &key), [Arc::new(named.clone())]);
        let seen = writer.apply(Event::Apply(("a".to_owned(), None)));
        assert!(matches!(seen, Seen::One { before: Some(before), .. } if *before == named));
    }

    #[test]
    fn a_list_counts_when_all_of_it_is_here() {
        let mut writer = writer();
        let store = writer.as_reader();
        writer.apply(Event::Apply(("old", vec!["x"])));
        assert!(!store.is_listed());
        writer.apply(Event::Init);
        assert!(matches!(
            writer.apply(Event::InitApply(("new", vec!["x"]))),
            Seen::Nothing
        ));
        assert_eq!(of(&store, "x"), ["old"]);
        assert!(matches!(writer.apply(Event::InitDone), Seen::All));
        assert_eq!(of(&store, "x"), ["new"]);
        assert!(store.is_listed() && store.get(&Key::new("shop", "old")).is_none());
    }
}
