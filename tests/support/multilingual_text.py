"""Text in the ten languages that no table of palo_cpp was written from: what masks and detection are measured on."""

from __future__ import annotations

# Article 1 of the Universal Declaration of Human Rights.
UDHR = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience "
    "and should act towards one another in a spirit of brotherhood.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की "
    "देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "ar": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. "
    "وقد وهبوا عقلاً وضميراً وعليهم أن يعامل بعضهم بعضاً بروح الإخاء.",
    "bn": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে। তাঁদের বিবেক এবং বুদ্ধি আছে; সুতরাং সকলেরই একে অপরের "
    "প্রতি ভ্রাতৃত্বসুলভ মনোভাব নিয়ে আচরণ করা উচিত।",
    "ru": "Все люди рождаются свободными и равными в своём достоинстве и правах. "
    "Они наделены разумом и совестью и должны "
    "поступать в отношении друг друга в духе братства.",
    "ur": "تمام انسان آزاد اور حقوق و عزت کے اعتبار سے برابر پیدا ہوئے ہیں۔ "
    "انہیں ضمیر اور عقل ودیعت ہوئی ہے۔ "
    "اس لئے انہیں ایک دوسرے کے "
    "ساتھ بھائی چارے کا سلوک کرنا چاہیئے۔",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
    "人間は、理性と良心とを授けられており、互いに同胞の精神を"
    "もって行動しなければならない。",
}

# Answers about photos, from one word to two sentences.
ANSWERS = {
    "en": [
        "Two dogs.",
        "A red bus.",
        "Yes, three.",
        "Blue and white.",
        "A young boy holding an umbrella.",
        "Several boats lie near the shore under heavy clouds.",
        "Fresh vegetables: tomatoes, onions and green peppers.",
        "The kitchen looks old; pans hang over the stove and sunlight falls on the table.",
    ],
    "zh": [
        "两只狗。",
        "一辆红色公共汽车。",
        "三个人。",
        "蓝色和白色。",
        "小男孩拿着雨伞。",
        "海边停着几艘小船，天空布满乌云。",
        "新鲜蔬菜：番茄、洋葱和青椒。",
        "厨房看起来很旧，炉子上方挂着平底锅，阳光照在桌子上。",
    ],
    "hi": [
        "दो कुत्ते।",
        "एक लाल बस।",
        "छाता पकड़े एक छोटा लड़का।",
        "रसोई पुरानी लगती है; चूल्हे के ऊपर बर्तन टँगे हैं और मेज़ पर धूप पड़ रही है।",
    ],
    "es": [
        "Dos perros.",
        "Un autobús rojo.",
        "Sí, tres.",
        "Azul y blanco.",
        "Niño pequeño con paraguas.",
        "Varias barcas descansan cerca de la orilla bajo nubes oscuras.",
        "Verduras frescas: tomates, cebollas y pimientos verdes.",
        "La cocina parece antigua; cuelgan sartenes sobre los fogones y entra luz por la ventana.",
    ],
    "fr": [
        "Deux chiens.",
        "Un bus rouge.",
        "Oui, trois.",
        "Bleu et blanc.",
        "Jeune garçon tenant un parapluie.",
        "Plusieurs bateaux reposent près du rivage sous de gros nuages.",
        "Légumes frais : tomates, oignons et poivrons verts.",
        "La cuisine semble ancienne ; des casseroles pendent au mur et le soleil éclaire la table.",
    ],
    "ar": [
        "كلبان.",
        "حافلة حمراء.",
        "نعم، ثلاثة.",
        "أزرق وأبيض.",
        "ولد صغير يحمل مظلة.",
        "عدة قوارب قرب الشاطئ تحت غيوم داكنة.",
        "خضروات طازجة: طماطم وبصل وفلفل أخضر.",
        "يبدو المطبخ قديماً، وتتدلى المقالي فوق الموقد وتسقط أشعة الشمس على الطاولة.",
    ],
    "bn": [
        "দুটি কুকুর।",
        "একটি লাল বাস।",
        "ছাতা হাতে একটি ছোট ছেলে।",
        "রান্নাঘরটি পুরোনো দেখাচ্ছে; চুলার উপরে কড়াই ঝুলছে আর টেবিলে রোদ পড়েছে।",
    ],
    "ru": [
        "Две собаки.",
        "Красный автобус.",
        "Маленький мальчик с зонтом.",
        "Кухня выглядит старой; над плитой висят сковороды, на стол падает солнечный свет.",
    ],
    "ur": [
        "دو کتے۔",
        "سرخ بس۔",
        "جی ہاں، تین۔",
        "نیلا اور سفید۔",
        "چھتری تھامے چھوٹا لڑکا۔",
        "ساحل کے قریب بادلوں تلے کئی کشتیاں کھڑی ہیں۔",
        "تازہ سبزیاں: ٹماٹر، پیاز اور ہری مرچ۔",
        "باورچی خانہ پرانا لگتا ہے؛ چولہے کے اوپر برتن لٹکے ہیں اور میز پر دھوپ پڑ رہی ہے۔",
    ],
    "ja": [
        "二匹の犬。",
        "赤いバス。",
        "はい、三人です。",
        "青と白。",
        "傘を持った小さな男の子。",
        "岸の近くに数隻のボートが浮かび、空は厚い雲に覆われている。",
        "新鮮な野菜：トマト、玉ねぎ、ピーマン。",
        "台所は古く見え、コンロの上に鍋が掛かり、テーブルに日光が差している。",
    ],
}
