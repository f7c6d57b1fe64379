"""Reading and preparing images: the one path from a file to what a network sees, for stages and service alike.

`read` turns a file of one slice into 8-bit greyscale pixels, `read_series` a volume, a multi-frame file, a zip or a
folder into slices in anatomical order. Greyscale comes first, because the colour mode of a file tells which website it
came from, and a network must never learn that. `prepare` crops to the head, pads to a square (never stretches) and
resizes with antialiasing. What a file is, is told by its content, never by its name.

Everything in a file that changes pixels is applied, checked or refused:

| kind | applied | refused, with its reason |
| --- | --- | --- |
| pictures: PNG, JPEG, TIFF, BMP, WebP, GIF | colour, palette and CMYK become ITU-R 601 luma; transparent pixels become
  black; EXIF rotation; all of 16 bits, between percentiles; TIFF's white-is-zero; the first of several pictures in a
  PNG | several pages or frames (TIFF, WebP, GIF), signed 8-bit or 32-bit colour TIFF |
| DICOM | transfer syntax (native, deflated, RLE, JPEG, JPEG-LS, JPEG 2000); BitsStored, HighBit,
  PixelRepresentation; PixelPaddingValue and its limit; Modality LUT or RescaleSlope and -Intercept; VOI LUT or the
  first window (percentiles where it is not usable); MONOCHROME1; PixelSpacing and its substitutes; ImageOrientation-,
  ImagePositionPatient and PatientOrientation; of enhanced files all these from the functional groups | other
  modalities and classes, colour, mosaics, BurnedInAnnotation, slope 0, contradicting PresentationLUTShape, frames of
  another size than the header says |
| NIfTI | byte order, scl_slope and scl_inter, sform, else qform; pixdim; a few NaN become black | colour, complex
  numbers, many NaN, the header of a pair |

Not applied: gamma, colour profiles and densities of pictures, overlays of DICOM. Of a DICOM file only the attributes
named in `mri.data.images.dicom` are read, so nothing about the patient enters the process.

Slices are shown in radiological orientation: patient's right on the left, front or top of the head at the top
(sagittal: face to the left), oblique ones as the nearest plane. Oblong pixels are enlarged along the coarser axis until
they are square. A picture of one grey level all over holds no head and is refused.
"""

from mri.data.images.kinds import SUFFIXES as SUFFIXES
from mri.data.images.kinds import is_picture as is_picture
from mri.data.images.levels import to_uint8 as to_uint8
from mri.data.images.preparing import CONTENT_LEVEL as CONTENT_LEVEL
from mri.data.images.preparing import CONTENT_PART as CONTENT_PART
from mri.data.images.preparing import check_mask as check_mask
from mri.data.images.preparing import content_box as content_box
from mri.data.images.preparing import prepare as prepare
from mri.data.images.preparing import prepare_mask as prepare_mask
from mri.data.images.reading import describe as describe
from mri.data.images.reading import printable as printable
from mri.data.images.reading import read as read
from mri.data.images.reading import read_mask as read_mask
from mri.data.images.reading import read_slice as read_slice
from mri.data.images.series import Contents as Contents
from mri.data.images.series import File as File
from mri.data.images.series import Stack as Stack
from mri.data.images.series import file_at as file_at
from mri.data.images.series import look as look
from mri.data.images.series import read_masks as read_masks
from mri.data.images.series import read_series as read_series
from mri.data.images.series import read_stack as read_stack
from mri.data.images.slices import MAX_PIXELS as MAX_PIXELS
from mri.data.images.slices import ImageError as ImageError
from mri.data.images.slices import LeftOut as LeftOut
from mri.data.images.slices import Series as Series
from mri.data.images.slices import Slice as Slice
