"""A model that is stuck: what it says before, and the sentence that it says over and over, in ten languages."""

# What comes before, and a sentence that a model gets stuck on.
STUCK = {
    "en": ("A dog runs on the grass. ", "The image also features a chair. "),
    "zh": ("一只狗在草地上跑。", "图片中还有一把椅子。"),
    "hi": ("एक कुत्ता घास पर दौड़ रहा है। ", "चित्र में एक कुर्सी भी है। "),
    "es": ("Un perro corre por la hierba. ", "¡La imagen muestra también una silla! "),
    "fr": ("Un chien court sur l’herbe. ", "L’image montre aussi une chaise… "),
    "ar": ("كلب يركض على العشب. ", "هل يوجد كرسي في الصورة؟ "),
    "bn": ("একটি কুকুর ঘাসের উপর দৌড়াচ্ছে। ", "ছবিতে একটি চেয়ারও আছে। "),
    "ru": ("Собака бежит по траве. ", "На картинке также есть стул. "),
    "ur": ("ایک کتا گھاس پر دوڑ رہا ہے۔ ", "تصویر میں ایک کرسی بھی ہے۔ "),
    "ja": ("犬が芝生の上を走っています。", "画像には椅子もあります。"),
}
