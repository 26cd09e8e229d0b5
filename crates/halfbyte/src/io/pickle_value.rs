//! What a pickle of weights is made of: the names that it may use, and the values that it builds.

use ::safetensors::Dtype;

/// What a pickle may name, and what it stands for.
pub(super) static CLASSES: &[(&str, Class)] = &[
    ("collections.OrderedDict", Class::OrderedDict),
    ("torch._utils._rebuild_tensor_v2", Class::RebuildTensor),
    ("torch._utils._rebuild_parameter", Class::RebuildParameter),
    ("torch.FloatStorage", Class::Storage(Dtype::F32)),
    ("torch.HalfStorage", Class::Storage(Dtype::F16)),
    ("torch.BFloat16Storage", Class::Storage(Dtype::BF16)),
    ("torch.DoubleStorage", Class::Storage(Dtype::F64)),
    ("torch.LongStorage", Class::Storage(Dtype::I64)),
    ("torch.IntStorage", Class::Storage(Dtype::I32)),
    ("torch.ShortStorage", Class::Storage(Dtype::I16)),
    ("torch.CharStorage", Class::Storage(Dtype::I8)),
    ("torch.ByteStorage", Class::Storage(Dtype::U8)),
    ("torch.BoolStorage", Class::Storage(Dtype::BOOL)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

/// A value; what does not fit in a word is an object of the pickle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little-endian.
    Long(&'a [u8]),
    Float,
    Text(&'a str),
    Class(Class),
    /// The number of an [`Object`].
    Object(usize),
}

/// A value that has parts.
#[derive(Debug)]
pub(super) enum Object<'a> {
    Tuple(Vec<Value<'a>>),
    List(Vec<Value<'a>>),
    Dict(Vec<(Value<'a>, Value<'a>)>),
    Storage(Storage<'a>),
    Tensor(Box<Tensor>),
}

/// Elements that lie outside the pickle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Dtype,
    pub(super) key: &'a str,
    /// Elements.
    pub(super) len: usize,
}

/// A window into a storage; all sizes are in elements.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// The number of the storage among the objects.
    pub(super) storage: usize,
    pub(super) offset: usize,
    pub(super) dims: Vec<usize>,
    /// As many as dimensions.
    pub(super) strides: Vec<usize>,
    /// Where in the file it was made, for messages.
    pub(super) at: usize,
}

/// A pickle that was run.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) root: Value<'a>,
    pub(super) objects: Vec<Object<'a>>,
}

impl<'a> Pickle<'a> {
    /// The object that `value` refers to.
    pub(super) fn object(&self, value: Value<'a>) -> Option<&Object<'a>> {
        let Value::Object(number) = value else { return None };
        self.objects.get(number)
    }
}
