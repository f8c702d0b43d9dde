//! Values that stay in their process (`docs/semantics.md`, section 1.3): handed over as they are,
//! and encoded only when they leave it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// MessagePack's extension type of a note: it stands in the place of a value that could not be
/// encoded when that was needed, and its text says why.
pub const NOT_ENCODED: i8 = 0x53;

/// A value whose type only its maker and its reader know.
pub type AnyValue = dyn Any + Send + Sync;

/// What can be done with the values of one type.
#[derive(Debug)]
pub struct LiveActs {
    /// Its MessagePack form. Never fails: what has none gives a note that says so.
    pub encode: fn(&AnyValue) -> Bytes,
    /// Puts a handle on the value into an `Option` of such a handle; leaves any other place as it
    /// is.
    pub hand_over: fn(&Arc<AnyValue>, &mut dyn Any),
}

/// A value that did not leave its process. Cheap to clone; equal are those that are one value.
#[derive(Clone)]
pub struct LiveValue {
    value: Arc<AnyValue>,
    weight: usize,
    acts: &'static LiveActs,
}

impl LiveValue {
    /// A value that counts for `weight` bytes; `acts` are those of its type.
    pub const fn new(value: Arc<AnyValue>, weight: usize, acts: &'static LiveActs) -> Self {
        Self { value, weight, acts }
    }

    /// How many bytes the value counts for.
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// The value's MessagePack form, made anew each time.
    pub fn encode(&self) -> Bytes {
        (self.acts.encode)(self.value.as_ref())
    }

    /// A handle of that type on the value; none when values of its type have another one.
    pub fn handle<H: 'static>(&self) -> Option<H> {
        let mut handle = None::<H>;
        (self.acts.hand_over)(&self.value, &mut handle);
        handle
    }
}

impl PartialEq for LiveValue {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }
}

impl Eq for LiveValue {}

impl fmt::Debug for LiveValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveValue").field("weight", &self.weight).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTS: LiveActs = LiveActs {
        encode: |value| match value.downcast_ref::<u8>() {
            Some(byte) => Bytes::copy_from_slice(&[*byte]),
            None => Bytes::new(),
        },
        hand_over: |value, to| {
            if let (Some(to), Ok(value)) =
                (to.downcast_mut::<Option<Arc<u8>>>(), Arc::clone(value).downcast())
            {
                *to = Some(value);
            }
        },
    };

    #[test]
    fn a_value_is_handed_over_to_who_asks_for_its_type_only() {
        let byte = Arc::new(7_u8);
        let live = LiveValue::new(Arc::clone(&byte) as Arc<AnyValue>, 100, &ACTS);
        let handle: Option<Arc<u8>> = live.handle();
        assert!(handle.is_some_and(|handle| Arc::ptr_eq(&handle, &byte)));
        assert_eq!(live.handle::<Arc<u16>>(), None);
        assert_eq!((live.weight(), live.encode().as_ref()), (100, [7].as_slice()));
    }

    #[test]
    fn only_one_and_the_same_value_is_equal() {
        let live = |byte: u8| LiveValue::new(Arc::new(byte), 1, &ACTS);
        let one = live(1);
        assert_eq!(one, one.clone());
        assert_ne!(one, live(1));
    }
}
