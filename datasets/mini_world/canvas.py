"""A z-buffered canvas that keeps color, depth and object ids of every pixel in step."""

from __future__ import annotations

import cv2
import numpy as np

from .camera import NEAR, Camera, clip_near
from .light import Light
from .textures import sample_noise

_SHIFT = 4  # fractional bits of polygon corners


class Canvas:
    """Image under construction, seen by `camera` and lit by `light`.

    Attributes:
        color: (H, W, 3) float32 RGB, about 0..1.
        depth: (H, W) float32 meters along the optical axis, inf where nothing was drawn.
        ids: (H, W) uint16 in the encoding of Cityscapes' instanceIds.
    """

    def __init__(self, camera: Camera, light: Light) -> None:
        shape = (camera.height, camera.width)
        self.camera, self.light = camera, light
        self.color = np.zeros((*shape, 3), np.float32)
        self.depth = np.full(shape, np.inf, np.float32)
        self.ids = np.zeros(shape, np.uint16)
        self._sun_light = light.sun.astype(np.float32)
        self._sky_light = light.ambient.astype(np.float32)
        self._to_sun = np.array(
            [light.to_sun @ axis for axis in (camera.right, camera.down, camera.forward)]
        )

    def may_show(self, points: np.ndarray) -> bool:
        """Whether something inside the hull of world points (N, 3) can still become visible."""
        points = self.camera.to_camera(points)
        if points[:, 2].max() < NEAR:
            return False
        if points[:, 2].min() < NEAR:
            return True
        region = self._region(self.camera.to_pixels(points))
        return region is not None and bool((self.depth[region] > points[:, 2].min()).any())

    def polygon(
        self,
        points: np.ndarray,
        ids: int,
        albedo: np.ndarray | tuple[float, float, float] = (1.0, 1.0, 1.0),
        *,
        texture: np.ndarray | None = None,
        frame: np.ndarray | None = None,
        grain: float = 0.06,
        glow: float = 0.0,
        unlit_normal: np.ndarray | None = None,
        ragged: float = 0.0,
    ) -> None:
        """Draw a planar polygon.

        Args:
            points: Corners (N, 3) in meters, N >= 3.
            ids: Value for the id buffer.
            albedo: Color (3,) that multiplies the texture.
            texture: Texture (h, w, 3 or 4) float32; the fourth channel is an opacity, cut at 0.5.
            frame: Top left, top right and bottom left corner (3, 3) of the texture; the first,
                second and last of `points` by default.
            grain: Strength of the surface noise; required if the texture has an opacity.
            glow: Share of the color that doesn't depend on the light.
            unlit_normal: Normal to shade with instead of the polygon's own.
            ragged: Strength of the noise that is added to the opacity.
        """
        points = np.asarray(points, float)
        frame = points[[0, 1, -1]] if frame is None else np.asarray(frame, float)
        across, downward = frame[1] - frame[0], frame[2] - frame[0]
        normal = np.cross(across, downward)
        towards_camera = np.sign(normal @ (self.camera.position - frame[0])) or 1.0
        normal *= towards_camera / (np.linalg.norm(normal) + 1e-9)
        visible = self._visible_part(points, frame[0], normal)
        if visible is None:
            return
        region, mask, depth = visible
        u, v = (self._along(axis, frame[0], region, depth) for axis in (across, downward))
        lit = self.light.shade(normal if unlit_normal is None else unlit_normal)
        tint = (np.asarray(albedo) * (lit * (1 - glow) + glow)).astype(np.float32)
        texels = np.ones((1, 1, 3), np.float32) if texture is None else _look_up(texture, u, v)
        color = texels[..., :3] * tint
        if grain > 0:
            wide, tall = np.linalg.norm(across), np.linalg.norm(downward)
            noise = sample_noise(u * wide, v * tall, 40.0, seed=float(frame[0].sum()))
            color = color * (1 + grain * noise)[..., None]
            if texels.shape[2] == 4:
                mask &= texels[..., 3] + ragged * np.clip(noise, -2, 2) > 0.5
        self._write(region, mask, depth, color, ids)

    def _visible_part(
        self, points: np.ndarray, origin: np.ndarray, normal: np.ndarray
    ) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray] | None:
        """Image region, mask and depth (h, w) of the unhidden part of a polygon (N, 3)."""
        outline = clip_near(self.camera.to_camera(points))
        covered = self._outline_mask(self.camera.to_pixels(outline)) if len(outline) > 2 else None
        if covered is None:
            return None
        (rows, cols), mask = covered
        towards = self.camera.along_rays(normal, *_pixel_centers(rows, cols))
        offset = float((origin - self.camera.position) @ normal)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = np.float32(offset) / towards
        mask &= (depth > 0) & (depth < self.depth[rows, cols])
        if not mask.any():
            return None
        box, region = _shrink(mask, rows, cols)
        return region, mask[box], np.where(mask[box], depth[box], np.float32(1))

    def capsule(
        self,
        start: np.ndarray,
        end: np.ndarray,
        radii: tuple[float, float],
        ids: int,
        albedo: np.ndarray,
        *,
        thickness: float | None = None,
        grain: float = 0.06,
        glow: float = 0.0,
    ) -> None:
        """Draw a limb: a rod between two world points (3,), radii in meters at both ends.

        Its section is round unless `thickness`, the radius along the line of sight, is given.
        """
        ends = self.camera.to_camera(np.array([start, end]))
        if ends[:, 2].min() < NEAR:
            return
        (x0, y0), (x1, y1) = self.camera.to_pixels(ends)
        r0, r1 = np.maximum(0.75, np.array(radii) * self.camera.focal / ends[:, 2])
        box = [(x + s * r, y + s * r) for x, y, r in ((x0, y0, r0), (x1, y1, r1)) for s in (-1, 1)]
        region = self._region(np.array(box))
        if region is None:
            return
        xs, ys = _pixel_centers(*region)
        x, y = (xs - x0).astype(np.float32)[None], (ys - y0).astype(np.float32)[:, None]
        dx, dy = x1 - x0, y1 - y0
        t = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-6), 0, 1)
        radius = r0 + (r1 - r0) * t
        nx, ny = (x - t * dx) / radius, (y - t * dy) / radius
        bulge = 1 - nx * nx - ny * ny
        mask = bulge > 0
        nz = np.sqrt(np.maximum(bulge, 0))
        z = ends[0, 2] + (ends[1, 2] - ends[0, 2]) * t
        thick = radii[0] + (radii[1] - radii[0]) * t if thickness is None else thickness
        depth = (z - nz * thick).astype(np.float32)
        mask &= depth < self.depth[region]
        if not mask.any():
            return
        facing = np.maximum(0, nx * self._to_sun[0] + ny * self._to_sun[1] - nz * self._to_sun[2])
        # The sky is above: surfaces that look up get more of it.
        sky = 0.78 - 0.22 * ny
        lit = facing[..., None] * self._sun_light + sky[..., None] * self._sky_light
        length = float(np.linalg.norm(ends[1] - ends[0]))
        noise = sample_noise(t * length, (nx + ny) * radii[0], 90.0, seed=float(ends.sum()))
        tint = np.asarray(albedo, np.float32)
        color = tint * (lit * (1 - glow) + glow) * (1 + grain * noise)[..., None]
        self._write(region, mask, depth, color, ids)

    def _along(
        self,
        axis: np.ndarray,
        origin: np.ndarray,
        region: tuple[slice, slice],
        depth: np.ndarray,
    ) -> np.ndarray:
        """Coordinate of a region's points at `depth` along `axis`: 0 at origin, 1 at its end."""
        scaled = axis / (axis @ axis)
        start = np.float32((self.camera.position - origin) @ scaled)
        return start + depth * self.camera.along_rays(scaled, *_pixel_centers(*region))

    def _region(self, corners: np.ndarray) -> tuple[slice, slice] | None:
        """Rows and columns of the part of the image that the points (N, 2) span."""
        x0, y0 = np.maximum(np.floor(corners.min(0)), 0)
        x1, y1 = np.minimum(np.ceil(corners.max(0)) + 1, (self.camera.width, self.camera.height))
        if x1 <= x0 or y1 <= y0:
            return None
        return slice(int(y0), int(y1)), slice(int(x0), int(x1))

    def _outline_mask(self, pixels: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray] | None:
        """Region of the image polygon (N, 2) and the bool mask of its pixels in it."""
        region = self._region(pixels)
        if region is None:
            return None
        rows, cols = region
        mask = np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.uint8)
        # OpenCV puts integers on pixel centers, the camera puts them on pixel corners.
        shifted = np.clip(pixels, -30000, 30000) - (cols.start + 0.5, rows.start + 0.5)
        fixed = np.round(shifted * (1 << _SHIFT)).astype(np.int32)
        cv2.fillPoly(mask, [fixed], 1, shift=_SHIFT)
        return region, mask.astype(bool)

    def _write(
        self,
        region: tuple[slice, slice],
        mask: np.ndarray,
        depth: np.ndarray,
        color: np.ndarray,
        ids: int,
    ) -> None:
        """Store the fragments of a region where the mask is set."""
        np.copyto(self.depth[region], depth, where=mask)
        np.copyto(self.color[region], color, where=mask[..., None], casting="same_kind")
        self.ids[region][mask] = ids


def _pixel_centers(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
    """Horizontal (W,) and vertical (H,) image coordinates of the pixels of a region."""
    return np.arange(cols.start, cols.stop) + 0.5, np.arange(rows.start, rows.stop) + 0.5


def _shrink(
    mask: np.ndarray, rows: slice, cols: slice
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Bounding box of a mask with set pixels: within the mask, and within the image."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    inner = slice(y, y + h), slice(x, x + w)
    return inner, (
        slice(rows.start + y, rows.start + y + h),
        slice(cols.start + x, cols.start + x + w),
    )


def _look_up(texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Bilinear texels (H, W, channels) at texture coordinates in 0..1 (clamped outside)."""
    h, w = texture.shape[:2]
    x = np.clip(u * w - 0.5, 0, w - 1).astype(np.float32)
    y = np.clip(v * h - 0.5, 0, h - 1).astype(np.float32)
    return cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
