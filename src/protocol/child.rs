//! Children: devices that are connected through a gateway.

use super::id::{DeviceId, ProductId};

/// Registry data of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Child {
    /// The registry does not know the child: its messages pass, and the platform registers it.
    Unknown,
    /// A device of this product, bound to this gateway if any.
    Known {
        /// Its product.
        product: ProductId,
        /// The gateway that it may speak through.
        gateway: Option<DeviceId>,
    },
}

/// The registry, as far as messages of children need it.
pub trait Children {
    /// Looks the child up. Must not block.
    fn child(&self, id: &str) -> Child;
}

/// The registry binds the child elsewhere, or knows it as a device of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignChild;

/// The registry's product of the last child of a path below a gateway; `None` for an empty path, and for a child that
/// the registry does not know.
///
/// # Errors
/// [`ForeignChild`]: a child of the path may speak neither through the gateway nor through one above it in the path.
pub fn product_below<T: AsRef<str>>(
    children: &dyn Children,
    gateway: &str,
    path: &[T],
) -> Result<Option<ProductId>, ForeignChild> {
    let mut about = None;
    for (depth, id) in path.iter().enumerate() {
        about = match children.child(id.as_ref()) {
            Child::Unknown => None,
            Child::Known { product, gateway: Some(binding) }
                if binding.as_str() == gateway
                    || path[..depth].iter().any(|above| above.as_ref() == binding.as_str()) =>
            {
                Some(product)
            }
            Child::Known { .. } => return Err(ForeignChild),
        };
    }
    Ok(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bindings;

    impl Children for Bindings {
        fn child(&self, id: &str) -> Child {
            let gateway = match id {
                "child1" => Some("gw1"),
                "grandchild1" => Some("child1"),
                "device1" => None,
                _ => return Child::Unknown,
            };
            let product = ProductId::new(&format!("product-of-{id}")).expect("a valid id");
            Child::Known { product, gateway: gateway.and_then(|gateway| DeviceId::new(gateway).ok()) }
        }
    }

    fn below(gateway: &str, path: &[&str]) -> Result<Option<String>, ForeignChild> {
        product_below(&Bindings, gateway, path).map(|product| product.map(|product| product.to_string()))
    }

    #[test]
    fn a_child_speaks_through_the_gateway_it_is_bound_to_and_through_no_other() {
        assert_eq!(below("gw1", &[]), Ok(None));
        assert_eq!(below("gw1", &["child1"]), Ok(Some("product-of-child1".to_owned())));
        assert_eq!(below("gw2", &["child1"]), Err(ForeignChild));
        assert_eq!(below("gw1", &["device1"]), Err(ForeignChild));
        assert_eq!(below("gw1", &["stranger"]), Ok(None));
    }

    #[test]
    fn a_nested_child_may_be_bound_to_any_device_above_it() {
        assert_eq!(below("gw1", &["child1", "grandchild1"]), Ok(Some("product-of-grandchild1".to_owned())));
        assert_eq!(below("gw1", &["grandchild1"]), Err(ForeignChild));
        assert_eq!(below("gw1", &["child1", "stranger"]), Ok(None));
    }
}
