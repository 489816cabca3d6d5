//! Declaration of metrics.

/// Declares a struct of metrics together with their names and meanings, so that none of the three can be forgotten.
macro_rules! metrics {
    ($(#[$doc:meta])* $type:ident { $($field:ident: $metric:ty = $name:literal, $help:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $type {
            $(#[doc = $help] pub $field: $metric,)+
        }

        impl $type {
            /// Descriptions of the metrics, in the order of the page.
            pub(super) fn descriptions() -> Vec<$crate::telemetry::metric::description::Description> {
                use $crate::telemetry::metric::description::{Description, Metric};
                vec![$(Description {
                    name: $name,
                    kind: <$metric as Metric>::KIND,
                    labels: <$metric as Metric>::labels(),
                    help: $help,
                }),+]
            }

            /// Writes the metrics: the sums over `parts`, each of which another thread writes.
            pub(super) fn encode(
                parts: &[&Self],
                encoder: &mut prometheus_client::encoding::DescriptorEncoder<'_>,
            ) -> std::fmt::Result {
                use $crate::telemetry::metric::description::Metric;
                let mut descriptions = Self::descriptions().into_iter();
                $(
                    // The list was made of the same fields, in the same order.
                    let description = descriptions.next().expect("a description for each field");
                    let parts_of_metric: Vec<&$metric> = parts.iter().map(|part| &part.$field).collect();
                    <$metric as Metric>::encode(&parts_of_metric, description.encode(encoder)?)?;
                )+
                Ok(())
            }
        }
    };
}
pub(super) use metrics;
