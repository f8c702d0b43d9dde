//! Live values: results that are handed over as they are as long as they stay in their process.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serialize};
use sortie_model::limits;
use sortie_model::record::Body;
use sortie_model::record::live::{AnyValue, LiveActs, LiveValue, NOT_ENCODED};

use super::{EmitError, NIL, encode_value};

/// How much memory a value takes. A live value counts with it where records are kept: a mailbox
/// that holds more than [`limits::MAILBOX_MEMORY_BYTES`], and a node whose mailboxes hold more than
/// [`limits::NODE_MAILBOX_MEMORY_BYTES`], write to disk.
///
/// By default a value weighs what it takes itself, which is all that a type without pointers has. A
/// type that owns memory elsewhere declares it, or it takes memory that nobody counts:
///
/// ```
/// use serde::Serialize;
/// use sortie_exec::task::Weight;
///
/// #[derive(Serialize)]
/// struct Image {
///     width: u32,
///     pixels: Vec<u8>,
/// }
///
/// impl Weight for Image {
///     fn weight(&self) -> usize {
///         size_of::<Self>() + self.pixels.capacity()
///     }
/// }
///
/// let image = Image { width: 2, pixels: vec![0; 64] };
/// assert!(image.weight() > 64);
///
/// #[derive(Serialize)]
/// struct Point(f64, f64);
/// impl Weight for Point {}
/// assert_eq!(Point(1.0, 2.0).weight(), 16);
/// ```
pub trait Weight {
    /// How many bytes the value takes, with everything that it owns; above [`limits::VALUE_BYTES`]
    /// it is refused. Asked once, when the value is emitted or returned: a value that grows later
    /// through a lock counts for what it was.
    fn weight(&self) -> usize {
        size_of_val(self)
    }
}

macro_rules! plain {
    ($($plain:ty)*) => { $(impl Weight for $plain {})* };
}
plain! { () bool char u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }

impl Weight for String {
    fn weight(&self) -> usize {
        size_of::<Self>() + self.capacity()
    }
}

impl<T: Weight> Weight for Vec<T> {
    fn weight(&self) -> usize {
        let unused = (self.capacity() - self.len()) * size_of::<T>();
        // What a type declares may be anything.
        self.iter().map(T::weight).fold(size_of::<Self>() + unused, usize::saturating_add)
    }
}

impl<T: Weight> Weight for Option<T> {
    fn weight(&self) -> usize {
        let owned = self.as_ref().map_or(0, |value| value.weight().saturating_sub(size_of::<T>()));
        size_of::<Self>().saturating_add(owned)
    }
}

impl<T: Weight> Weight for Box<T> {
    fn weight(&self) -> usize {
        size_of::<Self>().saturating_add(self.as_ref().weight())
    }
}

/// A value that is handed over as it is as long as it stays in its process (`docs/semantics.md`,
/// section 1.3): a handle on it, cheap to clone, which reads as the value.
///
/// A function returns it, or emits it ([`TaskContext::emit_live`](super::TaskContext::emit_live)).
/// Who reads the results as `Live<T>`, in the process in which the function ran and its job lives,
/// is given a handle on the same value: nothing is copied, and nothing is encoded. It is encoded
/// when it leaves that: for a reader in another process, for one that wants another type, or when
/// its mailbox writes to disk. Then `Live<T>` reads a value of its own, as it does everywhere for
/// functions that run in the background or on another node. So its type has an encoding, and
/// whether a value was live shows in [`Live::is_same`] only.
///
/// A value whose encoding fails when there is need of one is lost: its record stays, with a note
/// that says why.
///
/// The node drops its handle when the reader has acknowledged the value, or when the job is
/// removed. If that is the last one, the value is dropped there, under a lock: its `Drop` should
/// neither wait nor panic.
pub struct Live<T> {
    value: Arc<T>,
}

impl<T> Live<T> {
    /// A handle on a value.
    pub fn new(value: T) -> Self {
        Self { value: Arc::new(value) }
    }

    /// The value.
    pub fn into_arc(self) -> Arc<T> {
        self.value
    }

    /// Whether both are handles on one and the same value.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value)
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value) }
    }
}

impl<T> Deref for Live<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> From<Arc<T>> for Live<T> {
    fn from(value: Arc<T>) -> Self {
        Self { value }
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Live<T> {
    fn eq(&self, other: &Self) -> bool {
        *self.value == *other.value
    }
}

impl<T: Eq> Eq for Live<T> {}

/// Reads a value of its own.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Live<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        T::deserialize(from).map(Self::new)
    }
}

/// Whether a value may stay as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staying {
    /// It stays in its process until somebody reads it.
    Here,
    /// It leaves it.
    Leaves,
}

/// What a function may return: a value that has an encoding, or a [`Live`] one. Implemented for
/// nothing else.
pub trait TaskOutput: Sized {
    /// The record's body; none for `()`.
    #[doc(hidden)]
    fn into_body(self, staying: Staying) -> Result<Option<Body>, EmitError>;
}

impl<T: Serialize> TaskOutput for T {
    fn into_body(self, _: Staying) -> Result<Option<Body>, EmitError> {
        let bytes = encode_value(&self)?;
        Ok((bytes.as_ref() != NIL).then_some(Body::Value(bytes)))
    }
}

impl<T: Serialize + Weight + Send + Sync + 'static> TaskOutput for Live<T> {
    fn into_body(self, staying: Staying) -> Result<Option<Body>, EmitError> {
        if staying == Staying::Leaves {
            return encode_value(self.value.as_ref()).map(|bytes| Some(Body::Value(bytes)));
        }
        let weight = self.value.weight();
        if weight > limits::VALUE_BYTES {
            return Err(EmitError::TooLarge { length: weight });
        }
        let weight = weight + limits::LIVE_VALUE_BYTES;
        Ok(Some(Body::Live(LiveValue::new(self.value, weight, &Acts::<T>::ACTS))))
    }
}

/// The acts of values of one type.
struct Acts<T>(PhantomData<T>);

impl<T: Serialize + Send + Sync + 'static> Acts<T> {
    const ACTS: LiveActs = LiveActs { encode: Self::encode, hand_over: Self::hand_over };

    fn encode(value: &AnyValue) -> Bytes {
        let Some(value) = value.downcast_ref::<T>() else { return note("it is of another type") };
        // Who encodes may be writing other values to disk: a panic must not stop that.
        match catch_unwind(AssertUnwindSafe(|| encode_value(value))) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(EmitError::Encode(error))) => note(&error.to_string()),
            Ok(Err(error)) => note(&error.to_string()),
            Err(panic) => note(&super::panicked(panic.as_ref()).to_string()),
        }
    }

    fn hand_over(value: &Arc<AnyValue>, to: &mut dyn Any) {
        if let Some(to) = to.downcast_mut::<Option<Live<T>>>()
            && let Ok(value) = Arc::clone(value).downcast::<T>()
        {
            *to = Some(Live { value });
        }
    }
}

/// MessagePack's extension with a length of one byte.
const EXTENSION: u8 = 0xc7;
const NOTE: u8 = NOT_ENCODED as u8;
/// What a note is cut to, in bytes.
const NOTE_BYTES: usize = u8::MAX as usize;

/// What stands in the place of a value that has no encoding.
fn note(why: &str) -> Bytes {
    let end = (0..=NOTE_BYTES.min(why.len())).rev().find(|at| why.is_char_boundary(*at));
    let why = why.get(..end.unwrap_or(0)).unwrap_or_default();
    let mut note = BytesMut::with_capacity(3 + why.len());
    note.put_slice(&[EXTENSION, why.len() as u8, NOTE]);
    note.put_slice(why.as_bytes());
    note.freeze()
}

/// Why there is no value, if these bytes are the note that says so.
pub fn note_of(value: &[u8]) -> Option<&str> {
    match value {
        [EXTENSION, length, NOTE, why @ ..] if usize::from(*length) == why.len() => {
            std::str::from_utf8(why).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde::Serializer;

    use super::*;

    struct Stubborn;

    impl Serialize for Stubborn {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no form"))
        }
    }

    impl Weight for Stubborn {}

    struct Explosive;

    impl Serialize for Explosive {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("never this one")
        }
    }

    impl Weight for Explosive {}

    fn body(output: impl TaskOutput, staying: Staying) -> Body {
        output.into_body(staying).expect("it is small").expect("it is a value")
    }

    #[test]
    fn a_live_value_stays_as_it_is_and_counts_with_its_weight() {
        let live = Live::new(vec![1_u16, 2]);
        let Body::Live(value) = body(live.clone(), Staying::Here) else { panic!("it was encoded") };
        assert_eq!(value.weight(), 24 + 4 + limits::LIVE_VALUE_BYTES);
        assert!(value.handle::<Live<Vec<u16>>>().is_some_and(|other| other.is_same(&live)));
        assert!(value.handle::<Live<Vec<u8>>>().is_none());
        assert_eq!(Body::Value(value.encode()), body(vec![1_u16, 2], Staying::Here));
    }

    #[test]
    fn what_leaves_is_encoded_at_once() {
        let left = body(Live::new("text".to_owned()), Staying::Leaves);
        assert_eq!(left, body("text".to_owned(), Staying::Here));
        assert!(matches!(
            Live::new(Stubborn).into_body(Staying::Leaves),
            Err(EmitError::Encode(_))
        ));
        assert!(matches!(().into_body(Staying::Here), Ok(None)));
    }

    #[test]
    fn a_value_that_cannot_be_encoded_later_leaves_a_note() {
        let check = |body: Body, expected: &str| {
            let bytes = body.bytes();
            assert!(note_of(&bytes).is_some_and(|note| note.contains(expected)), "{bytes:?}");
        };
        check(body(Live::new(Stubborn), Staying::Here), "no form");
        check(body(Live::new(Explosive), Staying::Here), "never this one");
        assert_eq!(note_of(b"\xa1a"), None);
        assert_eq!(note_of(&note(&"ü".repeat(500))).map(str::len), Some(254));
    }

    #[test]
    fn a_value_heavier_than_one_may_be_is_refused() {
        let heavy = Live::new(vec![0_u8; limits::VALUE_BYTES]);
        assert!(matches!(heavy.into_body(Staying::Here), Err(EmitError::TooLarge { .. })));
    }

    #[test]
    fn a_type_may_declare_any_weight() {
        struct Declared(usize);

        impl Weight for Declared {
            fn weight(&self) -> usize {
                self.0
            }
        }

        let size = size_of::<Option<Declared>>();
        assert_eq!(Some(Declared(0)).weight(), size, "no less than it takes itself");
        for most in [vec![Declared(usize::MAX), Declared(usize::MAX)], vec![Declared(usize::MAX)]] {
            assert_eq!(Some(Box::new(most)).weight(), usize::MAX);
        }
    }

    #[test]
    fn what_a_value_owns_counts() {
        assert_eq!("abc".to_owned().weight(), 24 + 3);
        assert_eq!(vec!["abc".to_owned(), "d".to_owned()].weight(), 24 + 27 + 25);
        assert_eq!(Some(Box::new(7_u64)).weight(), 16);
        assert_eq!(None::<String>.weight(), 24);
    }
}
