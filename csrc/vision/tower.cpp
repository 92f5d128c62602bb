#include "vision/tower.h"

#include "vision/beit3.h"
#include "vision/clip_vit.h"

namespace palo {

std::vector<std::string> tower_names(const VisionConfig& config) {
  return config.tower == TowerKind::BEIT3 ? beit3_names(config) : clip_names(config);
}

std::unique_ptr<Tower> read_tower(const VisionConfig& config, const TensorReader& reader) {
  if (config.tower == TowerKind::BEIT3) return std::make_unique<Beit3>(config, reader);
  return std::make_unique<ClipVit>(config, reader);
}

}  // namespace palo
