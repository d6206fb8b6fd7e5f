//! Devices that tasks compute on, by their names in study files.

use std::fmt;

use candle_core::{Device, DeviceLocation};
use serde::{Deserialize, Serialize};

/// The name of a device: `cpu`, `cuda:0` (or another number), `metal`.
///
/// ```
/// use ablate_tasks::device::{DeviceError, DeviceName};
///
/// let [cpu, gpu] = ["cpu", "cuda:1"].map(|name| DeviceName::try_from(name.to_owned()));
/// assert_eq!((cpu, gpu), (Ok(DeviceName::Cpu), Ok(DeviceName::Cuda(1))));
/// assert_eq!(DeviceName::Metal.to_string(), "metal");
/// assert!(DeviceName::default().open()?.is_cpu());
/// let error = DeviceName::try_from("gpu".to_owned()).unwrap_err();
/// assert_eq!(error, DeviceError::Unknown("gpu".into()));
/// # Ok::<(), DeviceError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceName {
    /// The processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number.
    Cuda(usize),
    /// Apple's GPU.
    Metal,
}

/// A device that there is not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No name of a device.
    #[error("no device has the name {0:?}: \"cpu\", \"cuda:0\" (or another number), \"metal\"")]
    Unknown(String),
    /// This program was built without it.
    #[error(
        "device {name} needs a program that was built with the feature `{feature}`: cargo install --path crates/ablate/ablate --features {feature}"
    )]
    NotBuilt {
        /// The device.
        name: DeviceName,
        /// The feature of `ablate`, and of `ablate-tasks`.
        feature: &'static str,
    },
    /// The machine doesn't have it, or it cannot be used.
    #[error("device {name} cannot be used: {reason}")]
    Unavailable {
        /// The device.
        name: DeviceName,
        /// The reason, as its driver has it.
        reason: String,
    },
}

impl DeviceName {
    /// The device.
    ///
    /// # Errors
    /// This program was built without it, or the machine has none.
    pub fn open(self) -> Result<Device, DeviceError> {
        let (is_built, feature) = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Cuda(_) => (cfg!(feature = "cuda"), "cuda"),
            Self::Metal => (cfg!(feature = "metal"), "metal"),
        };
        if !is_built {
            return Err(DeviceError::NotBuilt { name: self, feature });
        }
        let device = match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => Device::new_cuda(number),
            Self::Metal => Device::new_metal(0),
        };
        device.map_err(|error| DeviceError::Unavailable { name: self, reason: error.to_string() })
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

impl TryFrom<String> for DeviceName {
    type Error = DeviceError;

    fn try_from(name: String) -> Result<Self, DeviceError> {
        match name.as_str() {
            "cpu" => Ok(Self::Cpu),
            "metal" => Ok(Self::Metal),
            text => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(number)) => Ok(Self::Cuda(number)),
                _ => Err(DeviceError::Unknown(name)),
            },
        }
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.to_string()
    }
}

/// The end of a task's description, where it is not computed on the processor.
pub(crate) fn note(device: &Device) -> String {
    let name = match device.location() {
        DeviceLocation::Cpu => return String::new(),
        DeviceLocation::Cuda { gpu_id } => DeviceName::Cuda(gpu_id),
        DeviceLocation::Metal { .. } => DeviceName::Metal,
    };
    format!(" Losses and gradients are computed on {name}.")
}
