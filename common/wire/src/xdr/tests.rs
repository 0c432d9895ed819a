use super::*;

/// The value's bytes are these, and these bytes are the value.
fn is(value: impl XdrEncode + XdrDecode + PartialEq + std::fmt::Debug, bytes: &[u8]) {
    assert_eq!(to_bytes(&value).unwrap(), bytes);
    assert_eq!(from_bytes(bytes), Ok(value));
}

fn refused<T: XdrDecode + std::fmt::Debug>(bytes: &[u8], why: XdrError) {
    assert_eq!(from_bytes::<T>(bytes).map(drop), Err(why));
}

#[test]
fn words() {
    is(-2i32, &[255, 255, 255, 254]);
    is(0xdead_beef_u32, &[0xde, 0xad, 0xbe, 0xef]);
    is(-2i64, &[255, 255, 255, 255, 255, 255, 255, 254]);
    is(1u64 << 40, &[0, 0, 1, 0, 0, 0, 0, 0]);
    is(1.5f64, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
    is(7u8, &[0, 0, 0, 7]);
    is(-1i8, &[255, 255, 255, 255]);
    is(65_535u16, &[0, 0, 255, 255]);
    refused::<u8>(&[0, 0, 1, 0], XdrError::Range(256));
    refused::<u16>(&[0, 1, 0, 0], XdrError::Range(65_536));
}

#[test]
fn text_is_padded_and_checked() {
    is("abcde".to_owned(), &[0, 0, 0, 5, b'a', b'b', b'c', b'd', b'e', 0, 0, 0]);
    is(String::new(), &[0, 0, 0, 0]);
    assert_eq!(from_bytes::<String>(&[0, 0, 0, 1, b'a', 9, 9, 9]).unwrap(), "a");
    refused::<String>(&[0, 0, 0, 1, b'a', 0, 0], XdrError::Truncated { want: 4, left: 3 });
    refused::<String>(&[0, 0, 0, 1, 0xff, 0, 0, 0], XdrError::NotUtf8);
    refused::<String>(&[0, 0, 0, 2, b'a', 0, 0, 0], XdrError::Nul);
    assert_eq!(to_bytes(&"a\0b".to_owned()), Err(XdrError::Nul));
    let over = XdrError::TooLong { len: STRING_MAX + 1, max: STRING_MAX };
    refused::<String>(&(STRING_MAX as u32 + 1).to_be_bytes(), over);
    assert_eq!(to_bytes(&"x".repeat(STRING_MAX + 1)), Err(over));
}

#[test]
fn options() {
    is(None::<u32>, &[0, 0, 0, 0]);
    is(Some(5u32), &[0, 0, 0, 1, 0, 0, 0, 5]);
    assert_eq!(from_bytes::<Option<u32>>(&[0, 0, 0, 9, 0, 0, 0, 5]), Ok(Some(5)));
    refused::<Option<u32>>(&[0, 0, 0, 1], XdrError::Truncated { want: 4, left: 0 });
}

#[test]
fn characters_take_four_bytes() {
    is(CharArray([b'a', 0xff]), &[0, 0, 0, b'a', 255, 255, 255, 255]);
    // The other sign, as a peer with unsigned characters sends it.
    assert_eq!(from_bytes(&[0, 0, 0, 255]), Ok(CharArray([255])));
    refused::<CharArray<1>>(&[0, 0, 1, 0], XdrError::Range(256));
    assert_eq!(CharArray::<4>::from_text("zoë").text(), "zo".as_bytes());
    assert_eq!(CharArray::<4>::from_text("ab").text(), b"ab");
}

#[test]
fn lengths_are_checked_before_memory_is_taken() {
    let mut r = Reader::new(&[0x40, 0, 0, 0, 1, 2, 3, 4]);
    let want = XdrError::Truncated { want: 0x1_0000_0000, left: 4 };
    assert_eq!(Vec::<u32>::decode_max(&mut r, usize::MAX), Err(want));
    let mut r = Reader::new(&[0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(Opaque::decode_max(&mut r, 64), Err(XdrError::TooLong { max: 64, .. })));
    let mut r = Reader::new(&[0, 0, 0, 3, 1, 2, 3, 0]);
    assert_eq!(Opaque::decode_max(&mut r, 3), Ok(Opaque(vec![1, 2, 3])));
    assert_eq!(Opaque(vec![0; 4]).encode_max(3, &mut Vec::new()), Err(XdrError::TooLong { len: 4, max: 3 }));
}

#[test]
fn leftovers_are_refused() {
    refused::<u32>(&[0; 8], XdrError::Leftover(4));
    refused::<()>(&[0], XdrError::Leftover(1));
}
