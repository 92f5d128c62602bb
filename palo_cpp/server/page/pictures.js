// Pictures, from a file to what is sent: as they are where the server takes them so, smaller where it does not.

import { Refused } from "./server.js";

// The server's limits as it has them by default; where it has others, its refusal says so.
export const limits = { nImages: 8, imageBytes: 20971520, nPixels: 64000000, bodyBytes: 67108864 };

// The vision tower sees a few hundred pixels; this leaves it as much as it can use.
const SMALL_EDGE = 1024;

export class Picture {
  constructor(file, name) {
    this.file = file;
    this.name = name;
    this.url = URL.createObjectURL(file);
    this.isScaled = false;
  }

  // Look at the file. `room` is how many characters the request has left for it.
  async read(room) {
    if (this.file.type && !this.file.type.startsWith("image/")) throw new Refused("notPicture");
    [this.width, this.height] = await sizeOf(this.url);
    const isLarge = this.file.size > limits.imageBytes || this.width * this.height > limits.nPixels;
    if (isLarge || this.file.size * 1.34 > room) await this.shrink();
    else this.data = await dataUri(this.file);
  }

  async shrink() {
    const scale = Math.min(1, SMALL_EDGE / Math.max(this.width, this.height));
    const size = [Math.round(this.width * scale) || 1, Math.round(this.height * scale) || 1];
    this.data = await dataUri(await redrawn(this.file, ...size));
    [this.width, this.height] = size;
    this.isScaled = true;
  }

  close() {
    URL.revokeObjectURL(this.url);
  }
}

// 0 x 0 where this browser cannot show the file; the server may read it all the same (HEIC).
function sizeOf(url) {
  return new Promise((resolve) => {
    const image = new Image();
    image.onload = () => resolve([image.naturalWidth, image.naturalHeight]);
    image.onerror = () => resolve([0, 0]);
    image.src = url;
  });
}

async function redrawn(file, width, height) {
  try {
    const bitmap = await createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.fillStyle = "white"; // JPEG has no transparency
    context.fillRect(0, 0, width, height);
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    if (blob) return blob;
  } catch {}
  throw new Refused("tooLarge");
}

async function dataUri(blob) {
  const reader = new FileReader();
  const isRead = new Promise((resolve, reject) => {
    reader.onload = resolve;
    reader.onerror = () => reject(new Refused("notPicture"));
  });
  reader.readAsDataURL(blob);
  await isRead;
  const kind = blob.type.startsWith("image/") ? blob.type : "image/unknown";
  return `data:${kind};base64,${reader.result.slice(reader.result.indexOf(",") + 1)}`;
}
